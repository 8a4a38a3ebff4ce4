"""Which files there are, and their documents, whatever the format.

    for document in read_documents("abstracts.jsonl"):
        if isinstance(document, Unreadable): ...

docs/formats.md describes the formats.
"""

import glob
import itertools
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ner_recipe.formats.bioc import ROOT as BIOC_ROOT
from ner_recipe.formats.bioc import read_bioc
from ner_recipe.formats.brat import ANNOTATIONS, TEXT, beside, read_brat
from ner_recipe.formats.document import Document, FormatError, Reading, Unreadable
from ner_recipe.formats.json_rows import read_json_lines, read_json_list
from ner_recipe.formats.parquet import read_parquet
from ner_recipe.formats.plain_text import read_text
from ner_recipe.formats.pubmed import ROOT as PUBMED_ROOT
from ner_recipe.formats.pubmed import read_pubmed
from ner_recipe.formats.pubtator import TITLE_LINE, read_pubtator
from ner_recipe.formats.source import head_of, root_name

READABLE = ("jsonl", "json", "parquet", "brat", "pubtator", "bioc", "pubmed", "text")
BY_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pubtator": "pubtator"}
SUFFIXES = (*BY_SUFFIX, ".json", ".xml", TEXT, ANNOTATIONS)
BIOC_JSON = re.compile(rb'"(?:documents|passages)"\s*:')


def read_documents(
    path: str | Path,
    format: str | None = None,
    *,
    text_column: str = "text",
    id_column: str | None = None,
    lines: bool = False,
    entities: bool = True,
    name: str | None = None,
) -> Iterator[Document | Unreadable]:
    """Yield the documents of a file, or of the files of a folder, as they are asked for.

    Args:
        path: as one of the inputs of `document_files`.
        format: one of READABLE; if None, each file's name and first bytes decide (`recognised`).
        text_column: of Parquet and JSON, where the text is.
        id_column: of Parquet and JSON, where the id is; every document must have it. If None, `id` is used
            where there is one, otherwise NAME:LINE or NAME:NUMBER.
        lines: whether each line of a plain text is a document.
        entities: whether entities are read and checked.
        name: of one file, in the ids of documents without one; if None, its path from `common_folder`.

    Raises:
        FormatError: at once if a file is missing or its format is not known; later, if one can't be read on.
    """
    if format not in (None, *READABLE):
        raise FormatError(f"found the format '{format}'; expected one of {', '.join(READABLE)}")
    pairs = [(file, format or recognised(file, lines)) for file in document_files([path])]
    root = common_folder([path])
    return itertools.chain.from_iterable(
        read_file(file, kind, Reading(name or name_in(root, file), text_column, id_column, lines, entities))
        for file, kind in pairs
    )


def read_file(path: Path, format: str, how: Reading) -> Iterator[Document | Unreadable]:
    """The documents of one file in a given format."""
    match format:
        case "jsonl":
            return read_json_lines(path, how)
        case "json":
            return read_json_list(path, how)
        case "parquet":
            return read_parquet(path, how)
        case "brat":
            return read_brat(path, how)
        case "pubtator":
            return read_pubtator(path, how)
        case "bioc":
            return read_bioc(path, how)
        case "pubmed":
            return read_pubmed(path)
    return read_text(path, how)


def recognised(path: Path, lines: bool = False) -> str:
    """The format of a file, by its name (without .gz) and its first 64 KiB.

    Raises:
        FormatError: the format is not known.
    """
    suffix = suffix_of(path)
    if suffix in BY_SUFFIX:
        return BY_SUFFIX[suffix]
    if suffix == ".json":
        head = head_of(path).lstrip()
        if BIOC_JSON.search(head):
            return "bioc"
        return "json" if head.startswith(b"[") else "jsonl"
    if suffix == ".xml":
        root = root_name(path)
        if root not in (BIOC_ROOT, PUBMED_ROOT):
            expected = f"<{BIOC_ROOT}> (BioC) or <{PUBMED_ROOT}> (PubMed)"
            raise FormatError(f"{path}: found the XML element <{root[:40]}>; expected {expected}")
        return "bioc" if root == BIOC_ROOT else "pubmed"
    if suffix == TEXT and lines:
        return "text"
    if suffix == TEXT and beside(path, ANNOTATIONS).exists():
        return "brat"
    if suffix == TEXT:
        return "pubtator" if TITLE_LINE.match(head_of(path).lstrip()) else "text"
    raise FormatError(
        f"{path}: found an unknown kind of file; expected {', '.join(SUFFIXES)}, or a given format"
    )


def suffix_of(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def document_files(inputs: Iterable[str | Path]) -> list[Path]:
    """The files of documents among files, folders and patterns, sorted by path, each once.

    A folder stands for all files below it whose names end in one of SUFFIXES (or that and .gz), except hidden
    ones. A pattern (`*`, `?`, `[...]`, `**`) is used only where no file has that name. A BRAT pair is its
    .txt file.

    Raises:
        FormatError: an input does not exist, holds no file or fits none, or a file is not a regular one.
    """
    found = [file for name in inputs for file in input_files(Path(name))]
    once = {os.path.realpath(file): file for file in sorted(found, reverse=True)}
    return sorted(once.values())


def common_folder(inputs: Iterable[str | Path]) -> Path:
    """The folder that holds all inputs: files are named from it in the ids of their documents.

    One folder is that folder itself, and of a pattern the part before its first `*`, `?` or `[` counts.
    """
    folders = []
    for path in map(Path, inputs):
        if not os.path.lexists(path):  # a pattern
            path = next(folder for folder in path.parents if not glob.has_magic(str(folder)))
        folder = path if path.is_dir() else path.parent
        folders.append(os.path.abspath(folder))  # noqa: PTH100 (a link keeps its name)
    return Path(os.path.commonpath(folders))


def name_in(root: Path, path: Path) -> str:
    """A file's path from a folder, with slashes."""
    return Path(os.path.relpath(path, root)).as_posix()


def input_files(path: Path) -> list[Path]:
    """The files that one input stands for."""
    if not os.path.lexists(path) and glob.has_magic(str(path)):
        matches = glob.glob(str(path), recursive=True)  # noqa: PTH207 (Path.glob finds hidden files too)
        if not matches:
            raise FormatError(f"{path}: found no file that fits; expected at least one")
        return [file for match in matches for file in input_files(Path(match))]
    if not kind_of(path, stat.S_ISDIR):
        return [regular(path)]
    files = [regular(file) for file in files_below(path, ())]
    if not files:
        raise FormatError(f"{path}: found no document in the folder; expected files {', '.join(SUFFIXES)}")
    return files


def files_below(folder: Path, parents: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files of documents in a folder and its folders, through links too."""
    real = os.path.realpath(folder)
    if real in parents:
        raise FormatError(f"{folder}: found a link to a folder that holds it; expected no such loop")
    try:
        inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise FormatError(f"{folder}: {error.strerror}; expected a readable folder") from None
    for path in inside:
        if path.is_dir():
            yield from files_below(path, (*parents, real))
        elif suffix_of(path) in SUFFIXES:
            yield path


def regular(path: Path) -> Path:
    """The file, or the text that an .ann file belongs to. Refuses what is not a regular file."""
    if suffix_of(path) == ANNOTATIONS:
        text = beside(path, TEXT)
        if not os.path.lexists(text):
            raise FormatError(f"{path}: found no {text.name} beside it; expected the text of the annotations")
        path = text
    if not kind_of(path, stat.S_ISREG):
        raise FormatError(f"{path}: found something that is not a regular file; expected a file or folder")
    return path


def kind_of(path: Path, test: Callable[[int], bool]) -> bool:
    """Whether a path leads to a file of this kind."""
    try:
        return test(path.stat().st_mode)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise FormatError(f"{path}: {getattr(error, 'strerror', error)}; expected a file or folder") from None
