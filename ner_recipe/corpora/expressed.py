"""Texts with entities as character spans -> rows of words with IOB2 tags.

    for row in rows_of(document): print(row["tokens"], row["tags"], row["lost"])

A word is a run of letters and digits, or one other character that is not white space. A row is a line of the
text, but a line break inside an entity starts no new row. Tags can't express every entity: `lost` says for
each that is left out why, so that the reports can count them.
"""

import bisect
import itertools
import re
from collections.abc import Iterator, Sequence

from ner_recipe.formats.document import Document, Entity

# The marks U+0300 to U+036F belong to the letter before them.
WORD = re.compile(r"(?:[^\W_]|[\u0300-\u036f])+|\S")
# Why tags can't express an entity, as the reports say it.
REASONS = {
    "gap": "with a gap",
    "boundary": "not at the ends of words",
    "nested": "inside a longer one",
    "overlap": "overlapping a longer one",
    "types": "a second type for the same words",
    "repeated": "annotated twice",
    "space": "without a word",
}

Range = tuple[int, int]


def words_of(text: str) -> list[Range]:
    """The range of each word, in characters."""
    return [found.span() for found in WORD.finditer(text)]


def rows_of(document: Document) -> Iterator[dict]:
    """Yield the lines of a document as rows.

    `spaces` says which words have white space before them. The first word of a row counts as one.
    """
    words = words_of(document.text)
    entities, lost = expressible(document, words)
    tags = ["O"] * len(words)
    for first, end, label in entities:
        tags[first:end] = [f"B-{label}", *[f"I-{label}"] * (end - first - 1)]
    for first, end in line_ranges(document.text, words, tags):
        shown = words[first:end]
        yield {
            "document": document.id,
            "tokens": [document.text[slice(*word)] for word in shown],
            "tags": tags[first:end],
            "place": document.place,
            "lines": None,
            "spaces": [True, *(before[1] < word[0] for before, word in zip(shown, shown[1:], strict=False))],
            "lost": lost if first == 0 else [],
        }


def line_ranges(text: str, words: Sequence[Range], tags: Sequence[str]) -> Iterator[Range]:
    """The words of each line. A line break before an I- tag does not count."""
    first = 0
    for number in range(1, len(words) + 1):
        if number == len(words) or (
            "\n" in text[words[number - 1][1] : words[number][0]] and not tags[number].startswith("I-")
        ):
            yield first, number
            first = number


def expressible(document: Document, words: Sequence[Range]) -> tuple[list[tuple[int, int, str]], list[str]]:
    """The entities that tags can express, as (first word, end, label), and the reason for each other one.

    Of entities that share words the longest is kept; of equally long ones, the first.
    """
    starts = {start: number for number, (start, _) in enumerate(words)}
    ends = {end: number + 1 for number, (_, end) in enumerate(words)}
    owners: list[tuple[int, int, str] | None] = [None] * len(words)
    kept, lost = [], []
    for entity in sorted(document.entities, key=lambda one: (one.start - one.end, one.start)):
        start, end = without_space(entity, words)
        if has_gap(entity, document.text):
            lost.append("gap")
        elif start >= end:
            lost.append("space")
        elif start not in starts or end not in ends:
            lost.append("boundary")
        else:
            found = (starts[start], ends[end], entity.label)
            others = {owner for owner in owners[found[0] : found[1]] if owner}
            if others:
                lost.append(conflict(found, others))
            else:
                kept.append(found)
                owners[found[0] : found[1]] = [found] * (found[1] - found[0])
    return kept, lost


def has_gap(entity: Entity, text: str) -> bool:
    """Whether anything but white space stands between the fragments of an entity."""
    inner = itertools.pairwise(entity.fragments)
    return any(text[end:start].strip() for (_, end), (start, _) in inner)


def without_space(entity: Entity, words: Sequence[Range]) -> Range:
    """The range of an entity without white space at its ends; an empty one if it holds no word."""
    first = bisect.bisect_right(words, entity.start, key=lambda word: word[1])
    end = bisect.bisect_left(words, entity.end, key=lambda word: word[0])
    if first >= end:
        return entity.start, entity.start
    return max(entity.start, words[first][0]), min(entity.end, words[end - 1][1])


def conflict(found: tuple[int, int, str], others: set[tuple[int, int, str]]) -> str:
    """Why an entity can't be tagged beside longer ones that share words with it."""
    if found in others:
        return "repeated"
    if any(found[:2] == other[:2] for other in others):
        return "types"
    return "nested" if any(other[0] <= found[0] and found[1] <= other[1] for other in others) else "overlap"
