"""BioC, as XML and as JSON: documents of passages, perhaps of sentences, with annotations.

    for document in read_bioc(Path("corpus.xml"), Reading("corpus.xml")): ...

Offsets count characters from the start of the document. The text is put together by them: a gap before a
passage is filled with line feeds, and a gap before a sentence with spaces. An annotation's label is its infon
`type`; its infon `score` is read if it is a number. Relations, and annotations without a location, are
ignored.
"""

import functools
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

from ner_recipe.formats.document import (
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
from ner_recipe.formats.json_rows import FromValue, from_list, id_of
from ner_recipe.formats.source import head_of, xml_items

ROOT, DOCUMENT = "collection", "document"
LARGEST_GAP = 1_000_000  # characters; a larger one is a wrong offset
# What XML 1.0 can't hold, not even escaped.
NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

XML_START = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE collection SYSTEM "BioC.dtd">
<collection><source></source><date></date><key></key>
"""
XML_END = "</collection>\n"
JSON_START = '{"source": "", "date": "", "key": "", "version": "1.0", "infons": {}, "documents": [\n'
JSON_END = "\n]}\n"


def read_bioc(path: Path, how: Reading) -> Iterator[Document | Unreadable]:
    """Yield each document of an XML or JSON file."""
    make = functools.partial(from_object, with_entities=how.entities)
    head = head_of(path).lstrip()
    if head.startswith((b"{", b"[")):
        # A list of collections is what PubMed Central's service returns.
        yield from from_list(path, how.name, b"[{[" if head.startswith(b"[") else b"{[", make)
    else:
        elements = (element for element in xml_items(path, ROOT) if element.tag == DOCUMENT)
        for number, element in enumerate(elements, start=1):
            yield from_element(element, f"{path}, document {number}", f"{how.name}:{number}", make)


@or_unreadable
def from_element(element: Element, place: str, default_id: str, make: FromValue) -> Document:
    try:
        value = as_object(element)
    except RecursionError:
        raise BadDocument(place, "found passages in passages in passages; expected one level") from None
    return make(value, place, default_id)


def as_object(element: Element) -> dict[str, Any]:
    """A document, passage, sentence or annotation of XML in the shape that BioC's JSON has."""
    return {
        **{name: element.findtext(name) for name in ("id", "offset", "text")},
        "infons": {infon.get("key"): infon.text for infon in element.iterfind("infon")},
        "locations": [location.attrib for location in element.iterfind("location")],
        **{
            f"{name}s": [as_object(e) for e in element.iterfind(name)]
            for name in ("passage", "sentence", "annotation")
        },
    }


def from_object(value: Any, place: str, default_id: str, with_entities: bool) -> Document:
    """The document that an object of BioC's JSON describes."""
    if not isinstance(value, dict) or not isinstance(value.get("passages"), list):
        raise BadDocument(place, f"found {shown(value)}; expected a BioC document with passages")
    passages = children(value, "passages", place)
    text = joined(passages, place)
    entities = entities_of(value, passages, text, place) if with_entities else ()
    return checked(Document(id_of(value, None, default_id, place), text, entities, place))


def entities_of(value: dict, passages: list[dict], text: str, place: str) -> tuple[Entity, ...]:
    """The entities of a document, its passages and their sentences."""
    holders = [
        value,
        *(part for passage in passages for part in (passage, *children(passage, "sentences", place))),
    ]
    annotations = [note for holder in holders for note in children(holder, "annotations", place)]
    return tuple(filter(None, (from_annotation(note, text, place) for note in annotations)))


def children(value: dict, key: str, place: str) -> list[dict]:
    """The objects of a list, () if there is none."""
    found = value.get(key) or []
    if not isinstance(found, list) or not all(isinstance(child, dict) for child in found):
        raise BadDocument(place, f"found {shown(found)} as '{key}'; expected a list of objects")
    return found


def joined(passages: list[dict], place: str) -> str:
    """The text of a document: each passage's, or that of its sentences, at its offset."""
    parts = []  # (offset, text, what fills a gap before it)
    for passage in passages:
        if passage.get("text"):
            parts.append((passage, "\n"))
        else:
            sentences = children(passage, "sentences", place)
            parts += [(part, " " if number else "\n") for number, part in enumerate(sentences)]
    text, length = [], 0
    ordered = [(whole_number(part.get("offset"), place), part.get("text"), fill) for part, fill in parts]
    for offset, piece, fill in sorted(ordered, key=lambda part: part[0]):
        if not isinstance(piece, str):
            raise BadDocument(place, f"found {shown(piece)} as the text at {offset}; expected text")
        if not 0 <= offset - length <= LARGEST_GAP:
            expected = f"one from {length}, where the text before it ends"
            raise BadDocument(
                place, f"found a passage or sentence with the offset {offset}; expected {expected}"
            )
        text += [fill * (offset - length), piece]
        length = offset + len(piece)
    return "".join(text)


def from_annotation(note: dict, text: str, place: str) -> Entity | None:
    """The entity of an annotation; None if it has no location."""
    pairs = []
    for location in children(note, "locations", place):
        start = whole_number(location.get("offset"), place)
        pairs.append((start, start + whole_number(location.get("length"), place)))
    if not pairs:
        return None
    infons = note.get("infons")
    if not isinstance(infons, dict) or not infons.get("type"):
        raise BadDocument(
            place, f"found an annotation at {pairs[0][0]} without type; expected an infon 'type'"
        )
    entity = make_entity(pairs, infons["type"], as_score(infons.get("score")))
    check_entity(entity, text, place)
    # BioC does not say how the text of an annotation with several locations is written.
    if isinstance(note.get("text"), str) and not entity.fragments:
        check_mention(note["text"], text[entity.start : entity.end], place)
    return entity


def whole_number(value: Any, place: str) -> int:
    """A number, which XML has as text."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,18}", value.strip(), re.ASCII):
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadDocument(place, f"found the offset or length {shown(value)}; expected a whole number")
    return value


def as_score(value: Any) -> float | None:
    try:
        score = float(value)
    except (TypeError, ValueError):
        return None
    return score if math.isfinite(score) else None


def format_json(document: Document) -> str:
    """One BioC document, of one passage, as JSON on one line."""
    passage = {"offset": 0, "infons": {}, "text": document.text, "sentences": [], "relations": []}
    passage["annotations"] = [
        {
            "id": f"T{number}",
            "infons": infons(entity),
            "text": document.text[entity.start : entity.end],
            "locations": [{"offset": start, "length": end - start} for start, end in locations(entity)],
        }
        for number, entity in enumerate(document.entities, start=1)
    ]
    value = {"id": document.id, "infons": {}, "passages": [passage], "annotations": [], "relations": []}
    return json.dumps(value, ensure_ascii=False)


def format_xml(document: Document) -> str:
    """One BioC document, of one passage, as XML.

    Raises:
        BadDocument: XML can't hold a character.
    """
    for value in (document.id, document.text, *(entity.label for entity in document.entities)):
        if found := NOT_XML.search(value):
            reason = f"found the character U+{ord(found[0]):04X}; XML can't hold it"
            raise BadDocument(document.place, f"{reason} (write JSON instead)")
    parts = ["<document><id>", xml(document.id), "</id><passage><offset>0</offset>"]
    parts += ["<text>", xml(document.text), "</text>"]
    for number, entity in enumerate(document.entities, start=1):
        parts.append(f'<annotation id="T{number}">')
        parts += [f'<infon key="{key}">{xml(value)}</infon>' for key, value in infons(entity).items()]
        parts += [f'<location offset="{start}" length="{end - start}"/>' for start, end in locations(entity)]
        parts += ["<text>", xml(document.text[entity.start : entity.end]), "</text></annotation>"]
    return "".join((*parts, "</passage></document>\n"))


def xml(text: str) -> str:
    return escape(text, {"\r": "&#13;"})  # a parser reads a bare CR as a line feed


def infons(entity: Entity) -> dict[str, str]:
    return {"type": entity.label, **({} if entity.score is None else {"score": repr(float(entity.score))})}


def locations(entity: Entity) -> tuple[tuple[int, int], ...]:
    return entity.fragments or ((entity.start, entity.end),)
