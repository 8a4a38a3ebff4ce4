"""Writing documents: JSON lines, BioC (XML or JSON), PubTator, BRAT, and CoNLL.

    write_documents(documents, "entities.jsonl", "jsonl")

Reading a file back gives the same documents, except for scores in PubTator and BRAT, which have none. CoNLL
is not read. What a format can't hold is an error.
"""

import contextlib
import gzip
import io
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

from jnlpba_dataset import FULL
from ner_recipe.formats.bioc import JSON_END, JSON_START, XML_END, XML_START, format_json, format_xml
from ner_recipe.formats.brat import ANNOTATIONS, TEXT, file_stem, file_text, format_annotations
from ner_recipe.formats.conll import Words, format_conll
from ner_recipe.formats.document import BadDocument, Document, FormatError, PlaceError, checked, shown
from ner_recipe.formats.json_rows import format_row
from ner_recipe.formats.pubtator import format_pubtator

WRITABLE = ("jsonl", "bioc", "pubtator", "brat", "conll")


class Layout(NamedTuple):
    """A format of one file: a document's part of it, and what stands before, between and after them."""

    document: Callable[[Document], str]
    before: str = ""
    between: str = ""
    after: str = ""


def write_documents(
    documents: Iterable[Document], path: str | Path, format: str, *, words: Words | None = None
) -> None:
    """Write documents whole or not at all, as they come. A .gz at the end of the name packs the file.

    Args:
        documents: what to write.
        path: a file, which is replaced; of BRAT a folder that is new or empty.
        format: one of WRITABLE. BioC is JSON if the name ends in .json (or .json.gz), otherwise XML.
        words: of CoNLL, the ranges of the words of a text.

    Raises:
        FormatError: the path can't be written, or the format can't hold a document.
    """
    path = Path(path)
    if format == "brat":
        write_brat(documents, path)
        return
    layout = layout_of(format, path, words)
    with replaced(path) as file:
        file.write(layout.before)
        for number, document in enumerate(documents):
            file.write(layout.between if number else "")
            file.write(formatted(document, layout.document, path))
        file.write(layout.after)


def layout_of(format: str, path: Path, words: Words | None) -> Layout:
    """How a format of one file is written."""
    match format:
        case "jsonl":
            return Layout(lambda document: format_row(document) + "\n")
        case "pubtator":
            return Layout(format_pubtator)
        case "bioc" if path.name.lower().removesuffix(".gz").endswith(".json"):
            return Layout(format_json, JSON_START, ",\n", JSON_END)
        case "bioc":
            return Layout(format_xml, XML_START, after=XML_END)
        case "conll" if words is not None:
            return Layout(lambda document: format_conll(document, words))
        case "conll":
            raise ValueError("format conll needs the argument words")
    raise FormatError(f"found the format '{format}' to write; expected one of {', '.join(WRITABLE)}")


def formatted(document: Document, form: Callable[[Document], str], path: Path) -> str:
    """A document's part of a file."""
    try:
        return form(checked(document))
    except BadDocument as error:
        raise FormatError(f"{path}: document {shown(document.id)}: {error.reason}") from None


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[TextIO]:
    """A text file to write, which takes the place of `path` once it is complete."""
    if path.is_dir():
        raise FormatError(f"{path}: found a folder; expected the name of a file to write")
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = part.open("wb")
    except OSError as error:
        if error.errno in FULL:
            raise
        raise PlaceError(f"{error.filename}: {error.strerror}; expected a place to write {path}") from None
    try:
        with raw:
            packed = path.suffix.lower() == ".gz"
            binary = gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) if packed else raw
            with binary, io.TextIOWrapper(binary, encoding="utf-8", newline="") as file:
                yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_brat(documents: Iterable[Document], folder: Path) -> None:
    """Write two files for each document, named by its id, into a folder that is new or empty."""
    part = folder.with_name(folder.name + ".part")
    try:
        if folder.exists() and next(folder.iterdir(), None):
            raise FormatError(f"{folder}: found files in it; expected a new or empty folder for BRAT")
        part.mkdir(parents=True)
    except OSError as error:
        if error.errno in FULL:
            raise
        raise PlaceError(f"{error.filename}: {error.strerror}; expected a place to write {folder}") from None
    names: set[str] = set()
    try:
        for document in documents:
            stem = formatted(document, file_stem, folder)
            if stem.casefold() in names:
                raise FormatError(
                    f"{folder}: found the id {shown(stem)} twice; expected one pair of files each"
                )
            names.add(stem.casefold())
            text = formatted(document, file_text, folder)
            (part / stem).parent.mkdir(parents=True, exist_ok=True)
            (part / f"{stem}{TEXT}").write_text(text, encoding="utf-8", newline="")
            annotations = formatted(document, format_annotations, folder)
            (part / f"{stem}{ANNOTATIONS}").write_text(annotations, encoding="utf-8", newline="")
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
