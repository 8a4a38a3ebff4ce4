"""What every reader yields and every writer takes: a document's text and its entities.

    Document("7", "IL-2 gene", (Entity(0, 9, "DNA"),))

All ranges are half-open, in characters (Unicode code points) of the document's text.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import NamedTuple

# How a line-oriented format shows an entity's text: each line break is a space.
LINE_BREAKS = str.maketrans("\r\n", "  ")


class FormatError(ValueError):
    """A file that can't be read or written. The message says where, what was found and what was expected."""


class PlaceError(FormatError):
    """A place where nothing can be written."""


class BadDocument(ValueError):
    """One document that can't be read or written; a reader goes on with the next one."""

    def __init__(self, place: str, reason: str):
        super().__init__(f"{place}: {reason}")
        self.place = place
        self.reason = reason


class Entity(NamedTuple):
    """A typed part of a text.

    `fragments` are the parts of an entity with gaps, in order; () if it has none. `score` is the model's, if
    a model found the entity.
    """

    start: int
    end: int
    label: str
    fragments: tuple[tuple[int, int], ...] = ()
    score: float | None = None


@dataclasses.dataclass(frozen=True)
class Document:
    """One text. `place` says where it was read: FILE, FILE:LINE, or FILE and the document's number."""

    id: str
    text: str
    entities: tuple[Entity, ...] = ()
    place: str = ""


class Reading(NamedTuple):
    """How the documents of a file are read.

    name: the file's, in the ids of documents without one. text_column, id_column: of Parquet and JSON.
    lines: whether each line of a plain text is a document. entities: whether entities are read and checked.
    """

    name: str
    text_column: str = "text"
    id_column: str | None = None
    lines: bool = False
    entities: bool = True

    @property
    def stem(self) -> str:
        """The name without its suffix, and without .gz before that."""
        packed = self.name.lower().endswith(".gz")
        return str(PurePosixPath(self.name[:-3] if packed else self.name).with_suffix(""))


class Unreadable(NamedTuple):
    """A document that can't be read, in a file whose other documents can. `reason` says found, expected."""

    place: str
    reason: str


def or_unreadable(parse: Callable[..., Document]) -> Callable[..., Document | Unreadable]:
    """Make a function that raises BadDocument return Unreadable instead."""

    @functools.wraps(parse)
    def tolerant(*args, **options) -> Document | Unreadable:
        try:
            return parse(*args, **options)
        except BadDocument as error:
            return Unreadable(error.place, error.reason)

    return tolerant


def checked(document: Document) -> Document:
    """Return the document.

    Raises:
        BadDocument: the id or the text is not Unicode text without NUL, or an entity does not fit the text.
    """
    check_text(document.id, "id", document.place)
    check_text(document.text, "text", document.place)
    for entity in document.entities:
        check_entity(entity, document.text, document.place)
    return document


def check_text(value: object, what: str, place: str) -> None:
    """Raise BadDocument if a value is not text that every format could hold in UTF-8."""
    if not isinstance(value, str):
        raise BadDocument(place, f"found {shown(value)} as the {what}; expected text")
    if "\0" in value:
        found = f"a NUL at character {value.index(chr(0))} of the {what}"
        raise BadDocument(place, f"found {found}; expected text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        found = f"half a surrogate pair at character {error.start} of the {what}"
        raise BadDocument(place, f"found {found}; expected Unicode text") from None


def check_entity(entity: Entity, text: str, place: str) -> None:
    """Raise BadDocument if the entity is not a labelled part of the text."""
    for value in (entity.start, entity.end, *(end for pair in entity.fragments for end in pair)):
        if not isinstance(value, int) or isinstance(value, bool):
            raise BadDocument(place, f"found the offset {shown(value)}; expected a whole number")
    if not 0 <= entity.start < entity.end <= len(text):
        found = f"an entity from {entity.start} to {entity.end}"
        raise BadDocument(place, f"found {found}; expected one inside the text of {len(text)} characters")
    check_text(entity.label, "label", place)
    if not entity.label:
        raise BadDocument(place, "found an entity with an empty label; expected a name")
    if entity.fragments:
        check_fragments(entity, place)
    score = entity.score
    if score is not None and (
        not isinstance(score, int | float) or isinstance(score, bool) or not math.isfinite(score)
    ):
        raise BadDocument(place, f"found the score {shown(score)}; expected a number")


def check_fragments(entity: Entity, place: str) -> None:
    """Raise BadDocument unless two or more fragments follow each other from the entity's start to its end."""
    edges = [edge for fragment in entity.fragments for edge in fragment]
    rising = all(start < end for start, end in entity.fragments) and edges == sorted(edges)
    if len(edges) < 4 or not rising or (edges[0], edges[-1]) != (entity.start, entity.end):
        found = "; ".join(f"{start} {end}" for start, end in entity.fragments)
        expected = f"two or more in order, from {entity.start} to {entity.end}"
        raise BadDocument(place, f"found the fragments {found}; expected {expected}")


def make_entity(fragments: list[tuple[int, int]], label: str, score: float | None = None) -> Entity:
    """An entity of one or more fragments, in any order."""
    ordered = tuple(sorted(fragments))
    return Entity(ordered[0][0], ordered[-1][1], label, ordered if len(ordered) > 1 else (), score)


def check_mention(stated: str, actual: str, place: str) -> None:
    """Raise BadDocument if a file states another text for an entity than its offsets give.

    A line break equals a space, which stands for it in line-oriented formats.
    """
    if stated.translate(LINE_BREAKS) != actual.translate(LINE_BREAKS):
        expected = f"{shown(actual)}, which its offsets give (in characters)"
        raise BadDocument(place, f"found the entity text {shown(stated)}; expected {expected}")


def shown(value: object) -> str:
    """A value as an error shows it, on one line and not too long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
