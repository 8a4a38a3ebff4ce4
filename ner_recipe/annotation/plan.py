"""The input files of annotate.py, as sources that are cut into chunks of documents.

    for number, items in chunks_of(source, settings): ...

A source is a large file or several small ones that follow each other. Sources and chunks depend on the files
and on --chunk_documents only, so any number of processes writes the same files.
"""

import argparse
import contextlib
import hashlib
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pyarrow import parquet

from jnlpba_dataset import file_sha256
from ner_recipe.annotation.settings import Settings
from ner_recipe.formats.brat import ANNOTATIONS, TEXT, beside
from ner_recipe.formats.document import Document, FormatError, Reading, Unreadable
from ner_recipe.formats.files import (
    SUFFIXES,
    common_folder,
    document_files,
    name_in,
    read_documents,
    suffix_of,
)
from ner_recipe.launch import UsageError, is_unicode

WHOLE = ("text", "brat")  # formats of a document a file
TABLES = ("jsonl", "json", "parquet", ".jsonl", ".ndjson", ".json", ".parquet")
# A flag -> the formats or suffixes of inputs that it has an effect on.
NEEDED_BY = {"lines": ("text", TEXT), "text_column": TABLES, "id_column": TABLES}
SAMPLE_BYTES = 1 << 20
SOURCE_BYTES = 4 << 20  # small files are read together up to this size


class InputFile(NamedTuple):
    """A file, its size, the sha256 of its bytes, and its name in the ids of documents."""

    path: str
    bytes: int
    sha256: str
    name: str


class Source(NamedTuple):
    """Files that are read one after the other."""

    number: int
    files: tuple[InputFile, ...]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


def input_files(inputs: Sequence[str], output_dir: Path, settings: Settings) -> list[InputFile]:
    """The files that the inputs name, but for those in the output folder.

    Raises:
        UsageError: an input does not exist, can't be read, or is of an unknown kind.
    """
    try:
        paths = document_files(inputs)
    except FormatError as error:
        raise UsageError(f"INPUT: {error}") from None
    output = output_dir.resolve()
    paths = [path for path in paths if output not in path.resolve().parents]
    if not paths:
        raise UsageError(f"INPUT: found no file outside {output_dir}; expected files to annotate")
    unknown = [path for path in paths if suffix_of(path) not in SUFFIXES and not settings.input_format]
    if unknown:
        raise UsageError(
            f"INPUT: {unknown[0]}: found an unknown kind of file; expected {', '.join(SUFFIXES)}, or add "
            "--input_format"
        )
    # The words of the command line were seen; these are names in folders, which ids and the manifest hold.
    if strange := [name for name in map(str, paths) if not is_unicode(name)]:
        raise UsageError(f"INPUT: {strange[0]!r}: found a name that is not UTF-8; rename the file or folder")
    root = common_folder(inputs)
    refuse_one_id_for_two(paths, settings)
    try:
        return [
            InputFile(str(path), path.stat().st_size, sha256(path), name_in(root, path)) for path in paths
        ]
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}; expected a file that can be read") from None


def refuse_idle_flags(given: argparse.Namespace, files: Sequence[InputFile]) -> None:
    """Refuse flags of formats that no input has."""
    kinds = {given.input_format or suffix_of(Path(file.path)) for file in files}
    for name, needed in NEEDED_BY.items():
        if getattr(given, name) and kinds.isdisjoint(needed):
            raise UsageError(f"--{name}: found no input that it is for; expected {', '.join(needed)}")


def refuse_one_id_for_two(paths: Sequence[Path], settings: Settings) -> None:
    """Refuse texts in one folder whose names differ in the suffix only, which ids don't have."""
    seen: dict[str, Path] = {}
    for path in paths:
        if settings.lines or (settings.input_format not in WHOLE and suffix_of(path) != TEXT):
            continue
        other = seen.setdefault(Reading(str(path)).stem, path)
        if other != path:
            raise UsageError(f"INPUT: {other} and {path} would have the same id; rename one of them")


def sha256(path: Path) -> str:
    """Of a file's bytes; of a text with annotations beside it, of both, because they are read together."""
    digest = hashlib.sha256()
    other = beside(path, ANNOTATIONS) if path.suffix.lower() == TEXT else path
    for part in dict.fromkeys((path, other)):
        if part == path or part.is_file():
            digest.update(file_sha256(part).encode())
    return digest.hexdigest()


def refuse_changed(file: InputFile) -> None:
    """Refuse a file that is not what it was when the work began: its chunks would hold other documents."""
    try:
        found = sha256(Path(file.path))
    except OSError as error:
        raise UsageError(f"{file.path}: {error.strerror}; make it readable, then start again") from None
    if found != file.sha256:
        raise UsageError(f"{file.path}: has changed since the work began; restore it, or use another folder")


def sources_of(files: Sequence[InputFile]) -> list[Source]:
    """The files in groups of up to SOURCE_BYTES; a larger file is alone."""
    groups: list[list[InputFile]] = []
    room = 0
    for file in files:
        if not groups or file.bytes > room:
            groups.append([])
            room = SOURCE_BYTES
        groups[-1].append(file)
        room -= file.bytes
    return [Source(number, tuple(group)) for number, group in enumerate(groups)]


def chunks_of(source: Source, settings: Settings) -> Iterator[tuple[int, list[Document | Unreadable]]]:
    """The documents of a source, in numbered chunks."""
    items = itertools.chain.from_iterable(documents_of(file, settings) for file in source.files)
    chunks = iter(lambda: list(itertools.islice(items, settings.chunk_documents)), [])
    return enumerate(chunks)


def documents_of(file: InputFile, settings: Settings) -> Iterator[Document | Unreadable]:
    """The documents of a file; if it can't be read on, the reason is the last item.

    Raises:
        UsageError: the file is gone or has changed.
    """
    refuse_changed(file)
    try:
        yield from read_documents(file.path, name=file.name, **how_to_read(settings))
    except FormatError as error:
        refuse_changed(file)  # a file that is gone is no damaged one
        yield Unreadable(file.path, str(error).removeprefix(f"{file.path}: "))


def how_to_read(settings: Settings) -> dict:
    """Options of read_documents. Entities in the input are not read, so wrong ones do no harm."""
    return {
        "format": settings.input_format,
        "text_column": settings.text_column,
        "id_column": settings.id_column,
        "lines": settings.lines,
        "entities": False,
    }


def documents_per_byte(source: Source, settings: Settings) -> float | None:
    """An estimate from the first MiB of a source; None if no document fits into it."""
    documents, read = 0, 0
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(FormatError):  # it is cut somewhere
        for file in source.files:
            path = Path(file.path)
            if "parquet" in (settings.input_format, suffix_of(path).removeprefix(".")):
                return rows_per_byte(path)
            with path.open("rb") as whole:
                start = whole.read(SAMPLE_BYTES - read)
            Path(folder, path.name).write_bytes(start)
            read += len(start)
            for _ in read_documents(Path(folder, path.name), **how_to_read(settings)):
                documents += 1
            if read == SAMPLE_BYTES:
                break
    return documents / read if documents and read else None  # an empty text is a document of no byte


def rows_per_byte(path: Path) -> float | None:
    """Of a Parquet file; None if it is damaged."""
    try:
        return parquet.read_metadata(path).num_rows / path.stat().st_size
    except (pa.ArrowException, OSError):
        return None


def belongs_to(rank: int, tasks: int, source: int, chunk: int, sources: int) -> bool:
    """Whether a chunk is part of this task: sources are dealt out whole if there are enough of them."""
    return (source if sources >= tasks else source + chunk) % tasks == rank
