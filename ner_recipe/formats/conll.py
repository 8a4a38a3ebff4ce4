r"""Words and IOB2 tags, as JNLPBA's files have them: word TAB tag, a blank line after each sentence.

    format_conll(document, lambda text: [word.span() for word in re.finditer(r"\S+", text)])

This format is only written: it has no text between the words. A document is one sentence after a line
`-DOCSTART- TAB O`, and its id and scores are not written.
"""

import re
from collections.abc import Callable, Iterable

from ner_recipe.formats.document import BadDocument, Document, shown

DOCUMENT_MARK = "-DOCSTART-"

Words = Callable[[str], Iterable[tuple[int, int]]]


def format_conll(document: Document, words: Words) -> str:
    """The lines of a document.

    Args:
        document: its entities must start and end with words and not overlap.
        words: the ranges of a text's words, in order.

    Raises:
        BadDocument: the format can't hold a word or an entity.
    """
    spans = list(words(document.text))
    tags = word_tags(document, spans)
    lines = [f"{DOCUMENT_MARK}\tO", ""]
    for (start, end), tag in zip(spans, tags, strict=True):
        word = document.text[start:end]
        if word.split() != [word] or word == DOCUMENT_MARK:
            expected = f"one without white space that is not {DOCUMENT_MARK}"
            raise BadDocument(document.place, f"found the word {shown(word)}; expected {expected}")
        lines.append(f"{word}\t{tag}")
    return "\n".join(lines) + ("\n\n" if spans else "\n")


def word_tags(document: Document, spans: list[tuple[int, int]]) -> list[str]:
    """One IOB2 tag for each word."""
    tags = ["O"] * len(spans)
    starts = {start: number for number, (start, _) in enumerate(spans)}
    ends = {end: number + 1 for number, (_, end) in enumerate(spans)}
    for entity in document.entities:
        found = f"found the entity {shown(document.text[entity.start : entity.end])} at {entity.start}"
        if entity.fragments:
            raise BadDocument(document.place, f"{found} with gaps; IOB2 tags have none")
        if re.search(r"\s", entity.label):
            raise BadDocument(document.place, f"{found}; expected a label without white space")
        if entity.start not in starts or entity.end not in ends:
            raise BadDocument(document.place, f"{found}; expected one that starts and ends with a word")
        inside = range(starts[entity.start], ends[entity.end])
        if any(tags[number] != "O" for number in inside):
            raise BadDocument(document.place, f"{found}, which overlaps another; IOB2 tags can't hold both")
        for number in inside:
            tags[number] = ("B-" if number == inside.start else "I-") + entity.label
    return tags
