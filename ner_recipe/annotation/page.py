"""entities.html: documents with their entities marked, in one file without scripts.

write_page(output, sources, summary)
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ner_recipe.annotation.output import Output, read_part
from ner_recipe.annotation.plan import Source, chunks_of
from ner_recipe.formats.document import Document
from ner_recipe.reports.files import write_text
from ner_recipe.reports.template import COLOURS, render_template

PAGE = "entities.html"
TEMPLATE = Path(__file__).resolve().parent / "page.html"
MOST = 100  # documents on the page


class Piece(NamedTuple):
    """A part of a text: outside of entities, or one entity."""

    text: str
    label: str | None = None
    score: float | None = None


def write_page(output: Output, sources: Sequence[Source], summary: dict) -> Path:
    """Write the page with the first documents; return its path."""
    pairs = list(itertools.islice(first_documents(output, sources), MOST))
    documents = [(document.id, list(pieces(document.text, row["entities"]))) for document, row in pairs]
    text = render_template(
        TEMPLATE,
        title=output.folder.resolve().name,
        summary=summary,
        documents=documents,
        colour={label: number % COLOURS for number, label in enumerate(summary["entities"])},
    )
    with output.finishing():
        write_text(output.folder / PAGE, text)
    return output.folder / PAGE


def first_documents(output: Output, sources: Sequence[Source]) -> Iterator[tuple[Document, dict]]:
    """Each document, read again for its text, and its row in the output."""
    for source in sources:
        for number, items in chunks_of(source, output.settings):
            documents = [item for item in items if isinstance(item, Document)]
            yield from zip(documents, read_part(output.part(source.number, number)), strict=True)


def pieces(text: str, entities: Iterable[dict]) -> Iterator[Piece]:
    """The text, cut at its entities."""
    end = 0
    for one in entities:
        if one["start"] > end:
            yield Piece(text[end : one["start"]])
        yield Piece(text[one["start"] : one["end"]], one["label"], one["score"])
        end = one["end"]
    if end < len(text):
        yield Piece(text[end:])
