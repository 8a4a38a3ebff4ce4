"""Where annotated text comes from: files in any known format, or a data set -> Arrow files of rows.

    rows = rows_of_file("train.jsonl", Columns(), cache_dir=None)      # a datasets.Dataset

A row is one sentence as tagged.py and expressed.py describe it. Files are read lazily into `datasets`' cache,
so a corpus of any size takes little memory. A changed file is read again.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import datasets
from datasets.exceptions import DatasetGenerationError

from jnlpba_dataset import CorpusError, file_sha256
from ner_recipe.corpora.expressed import rows_of
from ner_recipe.corpora.tagged import Columns, holds_documents, read_conll, read_records, row_of
from ner_recipe.formats.document import FormatError, Unreadable
from ner_recipe.formats.files import read_documents

VERSION = 1  # part of the cache key: change it whenever a reader changes
WORD_LINES = (".tsv", ".txt", ".conll", ".iob", ".iob2", ".iobes", ".bio", ".bilou")
RECORDS = (".json", ".jsonl", ".ndjson", ".csv", ".parquet")
DOCUMENTS = (".xml", ".gz", ".pubtator", ".ann")
PUBTATOR_TITLE = re.compile(rb"\s*[^|\s]+\|t\|")
ROWS = datasets.Features(
    {
        "document": datasets.Value("string"),
        "tokens": datasets.List(datasets.Value("string")),
        "tags": datasets.List(datasets.Value("string")),
        "place": datasets.Value("string"),
        "lines": datasets.List(datasets.Value("int32")),
        "spaces": datasets.List(datasets.Value("bool")),
        "lost": datasets.List(datasets.Value("string")),
    }
)


def rows_of_file(
    path: str | Path, columns: Columns, cache_dir: str | None, shown: str | None = None
) -> datasets.Dataset:
    """The rows of one file, or of a BRAT folder.

    Args:
        shown: the name to use in errors, such as the URL of a cached file. If None, the path.

    Raises:
        CorpusError: where, what was found, and what was expected.
    """
    path = Path(path)
    arguments = {"path": str(path), "shown": shown or str(path), "columns": tuple(columns)}
    key = {"sha256": content_sha256(path), "version": VERSION}
    return cached_rows(generate_rows, arguments | key, cache_dir)


def rows_of_dataset(
    data: datasets.Dataset, name: str, columns: Columns, cache_dir: str | None
) -> datasets.Dataset:
    """The rows of one split of a data set with a column of words and one of tags. `name` is for errors."""
    arguments = {"data": data, "name": name, "columns": tuple(columns), "version": VERSION}
    return cached_rows(generate_rows_of_dataset, arguments, cache_dir)


def cached_rows(generate, arguments: Mapping, cache_dir: str | None) -> datasets.Dataset:
    """What a generator yields, as an Arrow file. If the source is malformed, raise its error alone."""
    try:
        return datasets.Dataset.from_generator(
            generate, features=ROWS, cache_dir=cache_dir, gen_kwargs=dict(arguments)
        )
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, CorpusError):
            raise error.__cause__ from None
        raise


def generate_rows(path: str, shown: str, columns: tuple, sha256: str, version: int) -> Iterator[dict]:
    """Yield complete rows of one file."""
    found = None
    for found in read_rows(Path(path), shown, Columns(*columns)):
        yield {"spaces": None, "lost": [], **found}
    if found is None:
        raise CorpusError(f"{shown}: found no text; expected at least one sentence")


def generate_rows_of_dataset(
    data: datasets.Dataset, name: str, columns: tuple, version: int
) -> Iterator[dict]:
    """Yield complete rows of one split of a data set. Label ids become names if the data set knows them."""
    chosen = Columns(*columns).choose(data.column_names, name)
    inner = getattr(data.features[chosen.label], "feature", None)
    names = inner.names if isinstance(inner, datasets.ClassLabel) else None
    for number, record in enumerate(data, start=1):
        if names:
            record = {**record, chosen.label: [names[tag] for tag in record[chosen.label]]}
        yield {"spaces": None, "lost": [], **row_of(record, chosen, f"{name}, row {number}")}


def read_rows(path: Path, shown: str, columns: Columns) -> Iterator[dict]:
    """Yield the sentences of a file in any known format, which its name and its beginning tell."""
    kind = kind_of(path, columns)
    if kind == "words":
        yield from read_conll(path, shown)
    elif kind == "records":
        yield from read_records(path, columns)
    else:
        yield from document_rows(path, columns)


def kind_of(path: Path, columns: Columns) -> str:
    """`words` (a tagged word a line), `records` (lists of words and tags) or `documents` (text and spans).

    Raises:
        CorpusError: a name that no known format has.
    """
    suffix = path.suffix.lower()
    if path.is_dir() or suffix in DOCUMENTS:
        return "documents"
    if suffix in WORD_LINES:
        in_brat = suffix == ".txt" and path.with_suffix(".ann").is_file()
        with path.open("rb") as file:
            return "documents" if in_brat or PUBTATOR_TITLE.match(file.read(1000)) else "words"
    if suffix == ".csv":
        return "records"
    if suffix in RECORDS:
        return "documents" if holds_documents(path, columns) else "records"
    known = ", ".join((*WORD_LINES, *RECORDS, *DOCUMENTS))
    raise CorpusError(
        f"{path}: found a file name that ends with '{suffix}'; expected one of {known}, or a folder of BRAT"
    )


def document_rows(path: Path, columns: Columns) -> Iterator[dict]:
    """Yield the rows of documents with spans. A document that can't be read is an error."""
    try:
        for document in read_documents(path, text_column=columns.text or "text"):
            if isinstance(document, Unreadable):
                raise CorpusError(f"{document.place}: {document.reason}")
            yield from rows_of(document)
    except FormatError as error:
        raise CorpusError(str(error)) from None


def content_sha256(path: Path) -> str:
    """The checksum of a file; of a folder, that of its files' names and checksums."""
    if not path.is_dir():
        with_annotations = path.with_suffix(".ann")
        if path.suffix != ".txt" or not with_annotations.is_file():
            return file_sha256(path)
        parts = [path, with_annotations]
    else:
        parts = sorted(part for part in path.rglob("*") if part.is_file())
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part.name} {file_sha256(part)}\n".encode())
    return digest.hexdigest()
