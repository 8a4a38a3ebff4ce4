"""What every reader yields and every writer takes: a document's text and its entities.

All ranges are half-open, in characters (Unicode code points) of the document's text.
"""

import dataclasses
from typing import NamedTuple


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


class Unreadable(NamedTuple):
    """A document that can't be read, in a file whose other documents can. `reason` says found, expected."""

    place: str
    reason: str
