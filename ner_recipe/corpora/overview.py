"""What is in a corpus, before anyone trains on it: counts, lengths, repeats, and what was left out.

overviews = [describe(split, sentences, facts) for split, sentences in corpus.splits.items()]
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence

import datasets
import numpy as np
from transformers import PreTrainedTokenizerBase

from jnlpba_dataset import column, columns, split_counts, tokenize_words
from metrics import entities
from ner_recipe.corpora.leakage import sentence_hashes

EXAMPLES = 5
QUANTILES = {"median": 0.5, "95 %": 0.95, "longest": 1.0}

Lengths = dict[str, int]


@dataclasses.dataclass(frozen=True)
class Overview:
    """One split.

    counts: as `split_counts`. facts: how it was read. types: entities by type. words: the lengths of
    sentences, in words. examples: words and IOB2 tags of a few sentences. repeated: sentences that stand in
    it before. texts: the hash of each sentence's words. With a tokenizer, also subtokens: the lengths of
    sentences in subtokens; too_long: sentences with more than a window holds; unknown: words with an unknown
    subtoken.
    """

    name: str
    counts: Mapping[str, int | str | None]
    facts: Mapping[str, str]
    types: Mapping[str, int]
    words: Lengths
    examples: Sequence[tuple[Sequence[str], Sequence[str]]]
    repeated: int
    texts: frozenset[int]
    subtokens: Lengths | None = None
    too_long: int | None = None
    unknown: int | None = None


def describe(
    name: str,
    sentences: datasets.Dataset,
    facts: Mapping[str, str],
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_seq_length: int = 512,
) -> Overview:
    """Count what is in one split."""
    names = sentences.features["ner_tags"].feature.names
    types: collections.Counter[str] = collections.Counter()
    for tags in column(sentences, "ner_tags"):
        types.update(names[tag][2:] for tag in tags if names[tag].startswith("B-"))
    texts = sentence_hashes(sentences)
    measured = measure(sentences, tokenizer, max_seq_length) if tokenizer else {}
    return Overview(
        name=name,
        counts=split_counts(sentences),
        facts=facts,
        types=dict(sorted(types.items())),
        words=quantiles([len(words) for words in column(sentences, "tokens")]),
        examples=chosen_examples(sentences, names),
        repeated=len(sentences) - len(texts),
        texts=frozenset(texts),
        **measured,
    )


def measure(
    sentences: datasets.Dataset, tokenizer: PreTrainedTokenizerBase, max_seq_length: int
) -> dict[str, object]:
    """What a tokenizer makes of the words: `subtokens`, `too_long` and `unknown` of an Overview."""
    room = max_seq_length - tokenizer.num_special_tokens_to_add()
    lengths, unknown = [], 0
    known = [name for name in ("tokens", "spaces") if name in sentences.column_names]
    for batch in sentences.select_columns(known).iter(batch_size=1000):
        for words in tokenize_words(batch["tokens"], tokenizer, batch.get("spaces")):
            lengths.append(sum(map(len, words)))
            unknown += sum(tokenizer.unk_token_id in ids for ids in words)
    too_long = sum(length > room for length in lengths)
    return {"subtokens": quantiles(lengths), "too_long": too_long, "unknown": unknown}


def quantiles(lengths: Sequence[int]) -> Lengths:
    ordered = np.sort(lengths)
    return {name: int(ordered[int(share * (len(ordered) - 1))]) for name, share in QUANTILES.items()}


def chosen_examples(
    sentences: datasets.Dataset, names: Sequence[str]
) -> list[tuple[Sequence[str], Sequence[str]]]:
    """A few sentences with an entity, from the whole split."""
    rows = [row for row, tags in enumerate(column(sentences, "ner_tags")) if any(tags)]
    shown = min(EXAMPLES, len(rows))
    rows = [rows[place * len(rows) // shown] for place in range(shown)]
    return [
        (words, [names[tag] for tag in tags])
        for words, tags in columns(sentences.select(rows), "tokens", "ner_tags")
    ]


def shared(overviews: Sequence[Overview]) -> dict[tuple[str, str], int]:
    """How many different sentences two splits have in common, word for word."""
    return {
        (one.name, other.name): len(one.texts & other.texts)
        for place, one in enumerate(overviews)
        for other in overviews[place + 1 :]
    }


def pieces(words: Sequence[str], tags: Sequence[str]) -> list[tuple[str, str | None]]:
    """A sentence in pieces: the text of an entity with its type, or of one other word with None."""
    found = {first: (end, kind) for kind, first, end in entities(tags)}
    result: list[tuple[str, str | None]] = []
    place = 0
    while place < len(words):
        end, kind = found.get(place, (place + 1, None))
        result.append((" ".join(words[place:end]), kind))
        place = end
    return result
