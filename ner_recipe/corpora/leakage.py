"""What can be wrong with what is trained and evaluated on: one file for two splits, repeats, no entity.

refuse_bad_splits(splits)
splits = with_silver_facts(splits)
notes = corpus_notes(splits)
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping

import datasets

from jnlpba_dataset import column, columns
from ner_recipe.corpora.splits import Split
from ner_recipe.launch import UsageError

IN_SILVER = "also in the text that a model tagged"  # a fact about an evaluated split
BEGINNING = 30  # characters by which a sentence is looked for inside longer text
# The roles that need an entity, to learn from and to select by, and the flag that may have cut it off.
LEARNED = {"train": "max_train_samples", "validation": "max_eval_samples"}


def refuse_bad_splits(splits: Mapping[str, Split]) -> None:
    """Refuse one file for two splits, and a split without an entity to learn from or to select by."""
    used = {part for split in splits.values() for part in split.name.split("+")}
    sha256 = {part: digest for split in splits.values() for part, digest in split.source.sha256.items()}
    for one, other in itertools.combinations(sorted(used & set(sha256)), 2):
        if sha256[one] == sha256[other]:
            raise UsageError(
                f"the splits {one} and {other} are the same file (sha256 {sha256[one][:16]}...), so their "
                "scores would be of sentences seen in training; give each split a file of its own"
            )
    for role, limit in LEARNED.items():
        split = splits.get(role)
        if split and "train" in splits and not split.counts["entities"]:
            raise UsageError(
                f"the split {split.name} has no entity in its {len(split.sentences):,} sentences; expected "
                f"at least one; correct its tags, or raise --{limit}"
            )


def corpus_notes(splits: Mapping[str, Split]) -> list[str]:
    """A line for each evaluated split that repeats what is trained on, or has no entity."""
    notes = []
    trained = repeats(splits["train"]) if "train" in splits else (set(), set())
    silver = splits["train"].silver if "train" in splits else None
    if silver:
        notes.append(f"Text that a model tagged: {silver.files}")
    if silver and not silver.counts["entities"]:
        notes.append("Warning: the text that a model tagged has no entity, so it teaches that there are none")
    for role, split in splits.items():
        if role == "train":
            continue
        if not split.counts["entities"]:
            notes.append(f"Warning: the split {split.name} has no entity, so its F1 is 0")
        if set(split.name.split("+")) & set(splits["train"].name.split("+") if "train" in splits else ()):
            continue  # trained on it on purpose, which the reports say
        same = [len(mine & theirs) for mine, theirs in zip(repeats(split), trained, strict=True)]
        if any(same):
            documents_too = f"{same[0]:,} documents and " if same[0] else ""
            notes.append(
                f"Warning: also in {splits['train'].name}, word for word: {documents_too}{same[1]:,} "
                f"sentences of {split.name} (each counted once)"
            )
        if found := split.facts.get(IN_SILVER):
            notes.append(f"Warning: {IN_SILVER}: {found} (each counted once); remove them")
    return notes


def with_silver_facts(splits: Mapping[str, Split]) -> dict[str, Split]:
    """The splits; those to be evaluated state how many of their sentences a model tagged to be trained on."""
    silver = splits["train"].silver if "train" in splits else None
    stated = dict(splits)
    for role, split in splits.items():
        if silver and role != "train" and (found := found_in(split.sentences, silver.sentences)):
            facts = {**split.facts, IN_SILVER: f"{len(found):,} sentences of {split.name}"}
            stated[role] = dataclasses.replace(split, facts=facts)
    return stated


def found_in(sentences: datasets.Dataset, text: datasets.Dataset) -> set[str]:
    """The sentences that are also in other text, whose words may be divided in another way.

    White space does not count. A sentence of fewer than BEGINNING characters must be a whole line of the
    text, any other one can be anywhere in a document.
    """
    wanted = {"".join(words) for words in column(sentences, "tokens")}
    by_beginning: dict[str, list[str]] = {}
    for sentence in wanted:
        if len(sentence) >= BEGINNING:
            by_beginning.setdefault(sentence[:BEGINNING], []).append(sentence)
    found = set()
    for _, document in texts_of(text):
        lines = ["".join(words) for words in document]
        found |= wanted & set(lines)
        whole = "".join(lines)
        starts = itertools.accumulate((len(word) for words in document for word in words), initial=0)
        for start in starts:
            candidates = by_beginning.get(whole[start : start + BEGINNING], ())
            found |= {sentence for sentence in candidates if whole.startswith(sentence, start)}
    return found


def repeats(split: Split) -> tuple[set[int], set[int]]:
    """Hashes of the words of each known document, and of each sentence."""
    return {hash(words) for words in documents(split)}, sentence_hashes(split.sentences)


def sentence_hashes(sentences: datasets.Dataset) -> set[int]:
    """A hash of the words of each different sentence."""
    return {hash(tuple(words)) for words in column(sentences, "tokens")}


def documents(split: Split) -> Iterator[tuple[str, ...]]:
    """The words of each known document."""
    for name, document in texts_of(split.sentences):
        if name is not None:
            yield tuple(itertools.chain.from_iterable(document))


def texts_of(sentences: datasets.Dataset) -> Iterator[tuple[str | None, list[list[str]]]]:
    """The name and the sentences of each document; neighbours of unknown documents as one text."""
    rows = columns(sentences, "document_id", "tokens")
    for name, group in itertools.groupby(rows, key=lambda row: row[0]):
        yield name, [words for _, words in group]
