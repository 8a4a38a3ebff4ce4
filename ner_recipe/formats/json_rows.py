"""Documents as JSON: an object a line, or one list of objects.

    {"id": "7", "text": "IL-2 gene", "entities": [{"start": 0, "end": 9, "label": "DNA"}]}

The key `spans` is read like `entities`. An entity may have `text` (checked), `score`, and `fragments` (a list
of pairs). Other keys are ignored.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ner_recipe.formats.document import (
    BadDocument,
    Document,
    Entity,
    FormatError,
    Reading,
    Unreadable,
    check_entity,
    check_mention,
    checked,
    or_unreadable,
    shown,
)
from ner_recipe.formats.source import chunks, decoded, numbered_lines

ENTITY_KEYS = ("entities", "spans")
QUOTED, BARE = re.compile(rb'["\\]'), re.compile(rb'[][{},"]')
OPENING, CLOSED_BY = (b"[", b"{"), {b"]": b"[", b"}": b"{"}
# Characters that some programs take for the end of a line; JSON has an escape for each.
LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}

FromValue = Callable[[Any, str, str], Document]  # (value, place, id if it has none)


def read_json_lines(path: Path, how: Reading) -> Iterator[Document | Unreadable]:
    """Yield the object of each line that is not empty."""
    make = row_reader(how)
    for number, raw in numbered_lines(path):
        if raw.strip():
            yield from_json(raw, path, number, "", f"{how.name}:{number}", make)


def read_json_list(path: Path, how: Reading) -> Iterator[Document | Unreadable]:
    """Yield the objects of a file that is one list."""
    yield from from_list(path, how.name, b"[", row_reader(how))


def from_list(path: Path, name: str, inside: bytes, make: FromValue) -> Iterator[Document | Unreadable]:
    """Yield a document for each item of the lists inside these open brackets (`list_items`)."""
    for number, (line, raw) in enumerate(list_items(path, inside), start=1):
        yield from_json(raw, path, line, f", document {number}", f"{name}:{number}", make)


def row_reader(how: Reading) -> FromValue:
    return lambda row, place, default_id: from_row(row, place, default_id, how)


@or_unreadable
def from_json(raw: bytes, path: Path, line: int, part: str, default_id: str, make: FromValue) -> Document:
    """The document that a JSON text describes.

    `line` is where the text starts. `part` is what tells it from the others of that line, in errors.
    """
    text, place = decoded(raw, path, line, part), f"{path}:{line}{part}"
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{path}:{line + error.lineno - 1}{part}"
        reason = f"found {shown(text[error.pos : error.pos + 20])}: {error.msg}; expected a JSON object"
        raise BadDocument(place, reason) from None
    except (RecursionError, ValueError) as error:  # too many brackets, too long a number
        raise BadDocument(place, f"found JSON that can't be read ({error}); expected an object") from None
    return make(value, place, default_id)


def from_row(row: Any, place: str, default_id: str, how: Reading) -> Document:
    """The document that an object or a row of a table describes."""
    text_key = how.text_column
    if not isinstance(row, dict):
        raise BadDocument(place, f"found {shown(row)}; expected an object with '{text_key}'")
    if not isinstance(row.get(text_key), str):
        found = f"{shown(row[text_key])} as '{text_key}'" if text_key in row else f"no '{text_key}'"
        raise BadDocument(place, f"found {found}; expected the document's text")
    entities = entities_of(row, row[text_key], place) if how.entities else ()
    return checked(Document(id_of(row, how.id_column, default_id, place), row[text_key], entities, place))


def entities_of(row: dict, text: str, place: str) -> tuple[Entity, ...]:
    """The entities of an object."""
    keys = [key for key in ENTITY_KEYS if row.get(key) is not None]
    if len(keys) > 1:
        raise BadDocument(place, "found both 'entities' and 'spans'; expected one of them")
    items = row[keys[0]] if keys else []
    if not isinstance(items, list):
        raise BadDocument(place, f"found {shown(items)} as '{keys[0]}'; expected a list")
    return tuple(from_item(item, text, place) for item in items)


def id_of(row: dict, id_key: str | None, default_id: str, place: str) -> str:
    """The id of an object. Only an object that need not have one gets the default."""
    name = row.get(id_key or "id")
    if id_key is None and name in (None, ""):
        return default_id
    if not isinstance(name, str | int) or isinstance(name, bool):
        raise BadDocument(place, f"found {shown(name)} as '{id_key or 'id'}'; expected a name or a number")
    return str(name)


def from_item(item: Any, text: str, place: str) -> Entity:
    """The entity that an object describes."""
    if not isinstance(item, dict) or not {"start", "end", "label"} <= item.keys():
        raise BadDocument(place, f"found the entity {shown(item)}; expected start, end and label")
    parts = item.get("fragments") or []
    if not isinstance(parts, list) or not all(isinstance(part, list) and len(part) == 2 for part in parts):
        raise BadDocument(place, f"found the fragments {shown(parts)}; expected a list of pairs")
    fragments = tuple((start, end) for start, end in parts)
    entity = Entity(item["start"], item["end"], item["label"], fragments, item.get("score"))
    check_entity(entity, text, place)
    if isinstance(item.get("text"), str):
        check_mention(item["text"], text[entity.start : entity.end], place)
    return entity


def list_items(path: Path, inside: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (line, JSON text) for each item of the lists that lie inside exactly these open brackets.

    `[` gives the items of a list, `{[` those of each list in an object. Only the item being read is kept in
    memory. Outside the items, brackets and strings are checked and nothing else.
    """
    stack, line = bytearray(), 1
    item, first_line, separated, whole, has_list = bytearray(), 1, False, False, False
    for piece, mark in pieces(path):
        line += piece.count(b"\n")
        if stack == inside and mark in (b",", b"]"):
            item += piece
            body = item.lstrip()
            separated |= mark == b","
            if body or separated:
                yield first_line + item.count(b"\n", 0, len(item) - len(body)), bytes(body)
        elif stack.startswith(inside):
            item += piece + mark
        if mark in OPENING and not whole:
            stack += mark
            separated = separated and stack != inside
            has_list |= stack == inside
        elif mark in CLOSED_BY and stack[-1:] == CLOSED_BY[mark]:
            stack.pop()
            whole = not stack
        elif mark != b"," or whole:
            raise FormatError(f"{path}:{line}: found {mark.decode()} in the wrong place; expected JSON")
        if stack == inside and mark in (b",", b"["):
            item.clear()
            first_line = line
    if not whole:
        raise FormatError(f"{path}:{line}: the file ends early; expected whole JSON")
    if not has_list:
        raise FormatError(
            f"{path}: found no list of documents where the format has one; expected it, or another format"
        )


def pieces(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield (bytes before it, mark) for each bracket and comma of a JSON file that is not in a string."""
    rest, quoted, skip = bytearray(), False, 0
    for chunk in chunks(path):
        position, kept = skip, 0
        while match := (QUOTED if quoted else BARE).search(chunk, position):
            mark, position = match[0], match.end()
            if quoted or mark == b'"':
                escaped = mark == b"\\"  # so the next byte is no mark
                quoted = escaped or not quoted
                position += escaped
            else:
                rest += chunk[kept : match.start()]
                yield bytes(rest), mark
                rest.clear()
                kept = position
        rest += chunk[kept:]
        skip = max(0, position - len(chunk))


def format_row(document: Document) -> str:
    """One JSON object on one line."""
    row = {"id": document.id, "text": document.text}
    row["entities"] = [
        {
            **{"start": entity.start, "end": entity.end, "label": entity.label},
            "text": document.text[entity.start : entity.end],
            **({} if entity.score is None else {"score": entity.score}),
            **({"fragments": entity.fragments} if entity.fragments else {}),
        }
        for entity in document.entities
    ]
    return json.dumps(row, ensure_ascii=False).translate(LINE_ENDS)
