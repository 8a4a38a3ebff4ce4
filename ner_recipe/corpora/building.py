"""Rows of words and tags as they were written -> splits with label ids, in IOB2.

    splits, facts = build({"train": rows, "test": rows}, repair=False, cache_dir=None)

The labels are O, then B- and I- of each type, the types in alphabetical order.
"""

import collections
from collections.abc import Iterator, Mapping, Sequence

import datasets

from jnlpba_dataset import CorpusError, column, columns
from metrics import AVERAGES
from ner_recipe.corpora.expressed import REASONS
from ner_recipe.corpora.schemes import OUTSIDE, TagScan, as_iob2, read_tag
from ner_recipe.corpora.sources import VERSION, cached

Facts = dict[str, str]


def build(
    rows: Mapping[str, datasets.Dataset], repair: bool, cache_dir: str | None, inspecting: bool = False
) -> tuple[datasets.DatasetDict, dict[str, Facts]]:
    """The splits of a corpus, and what the reports state about how each was read.

    Args:
        rows: by split. Where there is a split `train`, the others must have no other types.
        repair: read tags that no scheme allows by the rules of conlleval.
        inspecting: accept what can't be trained on: types that train does not have, and no entity at all.

    Raises:
        CorpusError: invalid tags, a document in two places, or a type that only validation or test has.
    """
    scan = TagScan()
    ordered = sorted(rows, key=lambda split: split != "train")
    trained: list[str] | None = None
    for split in ordered:
        scan_rows(scan, rows[split])
        if split == "train":
            trained = scan.kinds()
    if trained is not None and not inspecting:
        refuse_untrainable(scan, trained, rows["train"][0]["place"])
    scheme = scan.scheme(repair)
    labels = label_set(scan.kinds())
    splits = datasets.DatasetDict({split: tagged(split, rows[split], labels, cache_dir) for split in rows})
    return splits, {split: reading_facts(rows[split], str(scheme)) for split in rows}


def scan_rows(scan: TagScan, rows: datasets.Dataset) -> None:
    finished: set[str] = set()
    before = None
    for document, tags, place, lines in columns(rows, "document", "tags", "place", "lines"):
        scan.add(tags, lambda index, place=place, lines=lines: word_place(place, lines, index))
        if document in finished and document != before:
            raise CorpusError(
                f"{word_place(place, lines, 0)}: found the document '{document}' again after another one; "
                "expected its sentences one after the other"
            )
        finished |= {document} - {None}
        before = document


def word_place(place: str, lines: Sequence[int] | None, index: int) -> str:
    """Where a word stands: FILE:LINE if each word has its line."""
    return f"{place}:{lines[index]}" if lines else f"{place}, word {index + 1}"


def refuse_untrainable(scan: TagScan, trained: Sequence[str], train: str) -> None:
    """Refuse a train split without an entity, types that it does not have, and names that scores use."""
    if not trained:
        raise CorpusError(f"{train}: found no entity, every tag is O; expected tags such as B-Disease")
    taken = sorted(set(trained) & set(AVERAGES))
    if taken:
        place = next(place for tag, place in scan.first.items() if read_tag(tag).kind == taken[0])
        raise CorpusError(f"{place}: found the type '{taken[0]}', the name of an average; expected another")
    for tag, place in scan.first.items():
        kind = read_tag(tag).kind
        if kind and kind not in trained:
            raise CorpusError(
                f"{place}: found '{tag}', but no word of train has the type {kind}; expected one of "
                f"{', '.join(trained)} (remove the type, or train on text that has it)"
            )


def label_set(kinds: Sequence[str]) -> list[str]:
    """O, then B- and I- of each type."""
    return [OUTSIDE, *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI")]


def label_names(sentences: datasets.Dataset) -> list[str]:
    """The labels in the order of their ids."""
    return list(sentences.features["ner_tags"].feature.names)


def relabelled(sentences: datasets.Dataset, labels: Sequence[str]) -> datasets.Dataset:
    """The same sentences with label ids in another order, or among more labels."""
    names = label_names(sentences)
    if names == list(labels):
        return sentences
    features = sentences.features.copy()
    features["ner_tags"] = datasets.List(datasets.ClassLabel(names=list(labels)))
    return sentences.map(
        renumbered,
        batched=True,
        features=features,
        fn_kwargs={"new_ids": [labels.index(name) for name in names]},
    )


def renumbered(examples: Mapping[str, list], new_ids: list[int]) -> dict[str, list]:
    return {"ner_tags": [[new_ids[tag] for tag in tags] for tags in examples["ner_tags"]]}


def tagged(
    split: str, rows: datasets.Dataset, labels: Sequence[str], cache_dir: str | None
) -> datasets.Dataset:
    """One split with the features of the JNLPBA builder, and `spaces` if the source has the original text."""
    features = {
        "id": datasets.Value("string"),
        "document_id": datasets.Value("string"),
        "sentence_id": datasets.Value("int32"),
        "tokens": datasets.List(datasets.Value("string")),
        "ner_tags": datasets.List(datasets.ClassLabel(names=list(labels))),
    }
    spaced = next(column(rows, "spaces"), None) is not None
    if spaced:
        features["spaces"] = datasets.List(datasets.Value("bool"))
    arguments = {"split": split, "rows": rows, "labels": tuple(labels), "spaced": spaced, "version": VERSION}
    return cached(generate_sentences, datasets.Features(features), arguments, cache_dir)


def generate_sentences(
    split: str, rows: datasets.Dataset, labels: tuple[str, ...], spaced: bool, version: int
) -> Iterator[dict]:
    """Yield the sentences of a split. Documents and sentences are numbered as by the JNLPBA builder."""
    ids = {label: number for number, label in enumerate(labels)}
    before, sentence = None, 0
    for number, (document, tokens, tags, spaces) in enumerate(
        columns(rows, "document", "tokens", "tags", "spaces")
    ):
        sentence = sentence + 1 if document == before else 0
        before = document
        known = document is not None
        row = {
            "id": f"{split}-{document}.{sentence}" if known else f"{split}-{number}",
            "document_id": f"{split}-{document}" if known else None,
            "sentence_id": sentence if known else None,
            "tokens": tokens,
            "ner_tags": [ids[tag] for tag in as_iob2([read_tag(tag) for tag in tags])],
        }
        yield row | ({"spaces": spaces} if spaced else {})


def document_numbers(sentences: datasets.Dataset) -> list[int] | None:
    """A number for each sentence's document, in the order of the corpus; None if any document is unknown."""
    names = list(column(sentences, "document_id"))
    numbers: dict[str, int] = {}
    return None if None in names else [numbers.setdefault(name, len(numbers)) for name in names]


def reading_facts(rows: datasets.Dataset, scheme: str) -> Facts:
    """The tag scheme; or, of text with spans, how many entities tags can't express, by reason."""
    if next(column(rows, "spaces"), None) is None:
        return {"tag scheme": scheme}
    counts = collections.Counter(reason for reasons in column(rows, "lost") for reason in reasons)
    if not counts:
        return {"entities left out": "none"}
    reasons = ", ".join(f"{REASONS[reason]} {count:,}" for reason, count in counts.most_common())
    return {"entities left out": f"{counts.total():,}, because tags can't express them: {reasons}"}
