"""Rows of words and tags as they were written -> splits with label ids, in IOB2.

    splits, facts = build({"train": rows, "test": rows}, repair=False, cache_dir=None)

The labels are O, then B- and I- of each type, the types in alphabetical order.
"""

import collections
from collections.abc import Iterator, Mapping, Sequence

import datasets

from jnlpba_dataset import CorpusError, column, columns
from ner_recipe.corpora.expressed import REASONS
from ner_recipe.corpora.schemes import OUTSIDE, TagScan, as_iob2, read_tag

Facts = dict[str, str]


def build(
    rows: Mapping[str, datasets.Dataset], repair: bool, cache_dir: str | None
) -> tuple[datasets.DatasetDict, dict[str, Facts]]:
    """The splits of a corpus, and what the reports state about how each was read.

    Args:
        rows: by split. Where there is a split `train`, the others must have no other types.
        repair: read tags that no scheme allows by the rules of conlleval.

    Raises:
        CorpusError: invalid tags, or a type that only validation or test has.
    """
    scan = TagScan()
    ordered = sorted(rows, key=lambda split: split != "train")
    trained: list[str] | None = None
    for split in ordered:
        scan_rows(scan, rows[split])
        if split == "train":
            trained = scan.kinds()
    if trained is not None:
        refuse_unseen(scan, trained)
    scheme = scan.scheme(repair)
    labels = label_set(scan.kinds())
    splits = datasets.DatasetDict({split: tagged(split, rows[split], labels, cache_dir) for split in rows})
    return splits, {split: {"tag scheme": str(scheme), **lost_facts(rows[split])} for split in rows}


def scan_rows(scan: TagScan, rows: datasets.Dataset) -> None:
    for tags, place, lines in columns(rows, "tags", "place", "lines"):
        scan.add(tags, lambda index, place=place, lines=lines: word_place(place, lines, index))


def word_place(place: str, lines: Sequence[int] | None, index: int) -> str:
    """Where a word stands: FILE:LINE if each word has its line."""
    return f"{place}:{lines[index]}" if lines else f"{place}, word {index + 1}"


def refuse_unseen(scan: TagScan, trained: Sequence[str]) -> None:
    """Refuse types that train does not have: no model can learn them."""
    for tag, place in scan.first.items():
        kind = read_tag(tag).kind
        if kind and kind not in trained:
            raise CorpusError(
                f"{place}: found '{tag}', but no word of train has the type {kind}; expected one of "
                f"{', '.join(trained)} (remove the type, or train on text that has it)"
            )


def label_set(kinds: Sequence[str]) -> list[str]:
    """O, then B- and I- of each type."""
    if not kinds:
        raise CorpusError("the corpus has no entity: every tag is O; expected tags such as B-Disease")
    return [OUTSIDE, *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI")]


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
    return datasets.Dataset.from_generator(
        generate_sentences,
        features=datasets.Features(features),
        cache_dir=cache_dir,
        # Not a list, which from_generator would divide into shards.
        gen_kwargs={"split": split, "rows": rows, "labels": tuple(labels), "spaced": spaced},
    )


def generate_sentences(
    split: str, rows: datasets.Dataset, labels: tuple[str, ...], spaced: bool
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


def lost_facts(rows: datasets.Dataset) -> Facts:
    """How many entities tags can't express, by reason; nothing for a source of tagged words."""
    counts = collections.Counter(reason for reasons in column(rows, "lost") for reason in reasons)
    if not counts:
        return {}
    reasons = ", ".join(f"{count:,} {REASONS[reason]}" for reason, count in counts.most_common())
    return {"entities left out": f"{counts.total():,}, which tags can't express: {reasons}"}
