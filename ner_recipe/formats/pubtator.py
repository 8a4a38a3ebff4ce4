"""PubTator: a title line, an abstract line, and a line for each entity.

    7|t|IL-2 gene expression
    7|a|It needs NF-kappa B.
    7	0	4	IL-2	protein	-

A blank line ends a document. The document's text is the title, a line feed and the abstract, so that offsets
are those of the file: PubTator counts one character between both.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from ner_recipe.formats.document import (
    LINE_BREAKS,
    BadDocument,
    Document,
    Entity,
    Reading,
    Unreadable,
    check_entity,
    check_mention,
    checked,
    or_unreadable,
    shown,
)
from ner_recipe.formats.source import decoded, numbered_lines

TITLE, ABSTRACT = "|t|", "|a|"
NO_IDENTIFIER = "-"  # other programs expect a sixth column
TITLE_LINE = re.compile(rb"[^|\t\r\n]+\|t\|")

Lines = list[tuple[int, bytes]]


def read_pubtator(path: Path, how: Reading) -> Iterator[Document | Unreadable]:
    """Yield each document of a file."""
    block: Lines = []
    for number, raw in numbered_lines(path):
        if raw.strip():
            block.append((number, raw))
        elif block:
            yield from_block(path, block, how)
            block = []
    if block:
        yield from_block(path, block, how)


@or_unreadable
def from_block(path: Path, block: Lines, how: Reading) -> Document:
    """The document of the lines up to a blank one."""
    lines = [(f"{path}:{number}", decoded(raw, path, number)) for number, raw in block]
    place, first = lines[0]
    name, mark, text = first.partition(TITLE)
    if not mark or not name or "\t" in name or "|" in name:
        raise BadDocument(place, f"found {shown(first)}; expected the title line ID|t|TITLE")
    rest = lines[1:]
    if rest and rest[0][1].startswith(name + ABSTRACT):
        text += "\n" + rest.pop(0)[1].removeprefix(name + ABSTRACT)
    rows = [(fields_of(line, name, at), at) for at, line in rest]
    found = [from_fields(fields, text, at) for fields, at in rows] if how.entities else []
    return checked(Document(name, text, tuple(filter(None, found)), place))


def fields_of(line: str, name: str, place: str) -> list[str]:
    """The fields of a line of a document's entity or relation."""
    fields = line.split("\t")
    if len(fields) < 4:
        expected = "ID TAB START TAB END TAB TEXT TAB TYPE, or a blank line before the next title"
        raise BadDocument(place, f"found {shown(line)}; expected {expected}")
    if fields[0] != name:
        raise BadDocument(
            place, f"found the id {shown(fields[0])}; expected {shown(name)}, as in the title line"
        )
    return fields


def from_fields(fields: list[str], text: str, place: str) -> Entity | None:
    """The entity of a line, or None for a relation."""
    if not any(is_number(field) for field in fields[1:3]):
        return None
    if len(fields) < 5 or not all(is_number(field) for field in fields[1:3]):
        line = "\t".join(fields)
        raise BadDocument(place, f"found {shown(line)}; expected ID TAB START TAB END TAB TEXT TAB TYPE")
    entity = Entity(int(fields[1]), int(fields[2]), fields[4])
    check_entity(entity, text, place)
    check_mention(fields[3], text[entity.start : entity.end], place)
    return entity


def is_number(field: str) -> bool:
    return field.isascii() and field.isdecimal() and len(field) < 19


def format_pubtator(document: Document) -> str:
    """The lines of a document and a blank one.

    Raises:
        BadDocument: PubTator can't hold the id, a line break of the text, or an entity.
    """
    name, text, place = document.id, document.text, document.place
    if not name or name != name.strip() or name.startswith("\ufeff") or re.search(r"[|\t\r\n]", name):
        raise BadDocument(place, f"found the id {shown(name)}; expected one without '|', tab and line break")
    title, line_feed, abstract = text.partition("\n")
    if "\n" in abstract or "\r" in text:
        raise BadDocument(
            place, "found a second line break in the text; expected at most one, after the title"
        )
    lines = [name + TITLE + title, *([name + ABSTRACT + abstract] if line_feed else [])]
    for entity in document.entities:
        mention = text[entity.start : entity.end].translate(LINE_BREAKS)
        if entity.fragments:
            raise BadDocument(place, f"found the entity {shown(mention)} with gaps; PubTator has none")
        if "\t" in mention or re.search(r"[\t\r\n]", entity.label):
            raise BadDocument(
                place,
                f"found a tab or line break in {shown(mention)}, {shown(entity.label)}; "
                "expected none in an entity or its label",
            )
        lines.append(
            "\t".join((name, str(entity.start), str(entity.end), mention, entity.label, NO_IDENTIFIER))
        )
    return "\n".join(lines) + "\n\n"
