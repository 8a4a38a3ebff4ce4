"""BRAT standoff: a text in NAME.txt, and its entities in NAME.ann beside it.

    T1	protein 0 4	IL-2
    T2	cell_type 10 11;14 19	T cells

Offsets count the characters of NAME.txt as they are, so a CR LF counts as two. Only lines of entities (T) are
used; events, relations, attributes, normalizations, notes and equivalences are ignored.
"""

import codecs
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

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
    make_entity,
    or_unreadable,
    shown,
)
from ner_recipe.formats.source import decoded, numbered_lines, opened

TEXT, ANNOTATIONS = ".txt", ".ann"
LONGEST = 500  # bytes of an id with slashes: systems limit whole paths too
IGNORED = tuple("RE*AMN#")
ENTITY = re.compile(r"T\S*\t([^\s]+) (\d{1,18} \d{1,18}(?:;\d{1,18} \d{1,18})*)\t(.*)", re.DOTALL | re.ASCII)


def beside(path: Path, suffix: str) -> Path:
    """The file beside this one with another suffix, in any case; in lower case if there is none."""
    cases = dict.fromkeys(map("".join, itertools.product(*zip(suffix, suffix.upper(), strict=True))))
    places = [path.with_suffix(case) for case in cases]
    return next(filter(os.path.lexists, places), places[0])


def read_brat(path: Path, how: Reading) -> Iterator[Document | Unreadable]:
    """Yield the one document of a text file. Without an .ann file beside it, it has no entities."""
    with opened(path) as file:
        raw = file.read()
    yield from_files(path, raw, how)


@or_unreadable
def from_files(path: Path, raw: bytes, how: Reading) -> Document:
    annotations = beside(path, ANNOTATIONS)
    text = decoded(raw.removeprefix(codecs.BOM_UTF8), path)
    # BRAT counts a byte-order mark as a character.
    shift = int(raw.startswith(codecs.BOM_UTF8))
    entities = []
    if how.entities and annotations.exists():
        for number, line in numbered_lines(annotations):
            if line and not line.decode("latin-1").startswith(IGNORED):
                place = f"{annotations}:{number}"
                entities.append(from_line(decoded(line, annotations, number), text, shift, place))
    return checked(Document(how.stem, text, tuple(entities), str(path)))


def from_line(line: str, text: str, shift: int, place: str) -> Entity:
    """The entity of a T line."""
    match = ENTITY.fullmatch(line)
    if not match:
        raise BadDocument(place, f"found {shown(line)}; expected T1 TAB TYPE START END TAB TEXT")
    label, offsets, mention = match.groups()
    pairs = [tuple(int(offset) - shift for offset in pair.split(" ")) for pair in offsets.split(";")]
    entity = make_entity(pairs, label)
    check_entity(entity, text, place)
    check_mention(mention, " ".join(text[start:end] for start, end in pairs), place)
    return entity


def format_annotations(document: Document) -> str:
    """The .ann file of a document.

    Raises:
        BadDocument: BRAT can't hold a label with white space.
    """
    lines = []
    for number, entity in enumerate(document.entities, start=1):
        if re.search(r"\s", entity.label, re.ASCII):
            found = f"found the label {shown(entity.label)}"
            raise BadDocument(document.place, f"{found}; expected one without white space")
        pairs = entity.fragments or ((entity.start, entity.end),)
        offsets = ";".join(f"{start} {end}" for start, end in pairs)
        mention = " ".join(document.text[start:end] for start, end in pairs).translate(LINE_BREAKS)
        lines.append(f"T{number}\t{entity.label} {offsets}\t{mention}\n")
    return "".join(lines)


def file_stem(document: Document) -> str:
    """The name of a document's files without suffix: its id. One with slashes stands for folders.

    Raises:
        BadDocument: the id can't be a file's name, or would not be read back.
    """
    name = document.id
    fits = name.isprintable() and "\\" not in name and all(map(fits_a_file, name.split("/")))
    fits = fits and len(name.encode()) <= LONGEST
    if not fits or any(
        folder.suffix.lower() in (TEXT, ANNOTATIONS) for folder in PurePosixPath(name).parents
    ):
        found = f"found the id {shown(name)}"
        raise BadDocument(document.place, f"{found}; expected one that can be a file's name")
    return name


def fits_a_file(name: str) -> bool:
    """Whether a part of a path can be the name of a file or folder that is not hidden."""
    return bool(name) and name == name.strip() and not name.startswith(".") and len(name.encode()) <= 200


def file_text(document: Document) -> str:
    """The .txt file of a document."""
    if document.text.startswith("\ufeff"):
        reason = "found a byte-order mark at the start of the text; expected none, since a .txt would lose it"
        raise BadDocument(document.place, reason)
    return document.text
