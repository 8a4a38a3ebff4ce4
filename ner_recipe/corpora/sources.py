"""Where annotated text comes from: files in any known format, or a data set -> Arrow files of rows.

    rows = rows_of_file("train.jsonl", Columns(), cache_dir=None)      # a datasets.Dataset

A row is one sentence as word_lines.py and expressed.py describe it. Files are read lazily into `datasets`'
cache, so a corpus of any size takes little memory. A changed file is read again.
"""

import collections
import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import datasets

from jnlpba_dataset import CorpusError, file_sha256, unwrapped
from ner_recipe.corpora.expressed import rows_of
from ner_recipe.corpora.records import Columns, data_set_records, holds_documents, read_records, row_of
from ner_recipe.corpora.word_lines import read_word_lines
from ner_recipe.formats.brat import ANNOTATIONS, TEXT, beside
from ner_recipe.formats.document import BadDocument, Document, FormatError, Unreadable
from ner_recipe.formats.files import document_files, read_documents, suffix_of
from ner_recipe.formats.pubtator import TITLE_LINE
from ner_recipe.formats.source import head_of

VERSION = 2  # part of the cache key: change it whenever a reader, a scheme or generate_sentences changes
WORD_LINES = (".tsv", ".txt", ".conll", ".iob", ".iob2", ".iobes", ".bio", ".bilou")
RECORDS = (".json", ".jsonl", ".ndjson", ".csv", ".parquet")
DOCUMENTS = (".xml", ".pubtator")
BRAT = (TEXT, ANNOTATIONS)
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
    path: str | Path,
    columns: Columns,
    cache_dir: str | None,
    shown: str | None = None,
    sha256: str | None = None,
) -> datasets.Dataset:
    """The rows of one file, or of a BRAT folder.

    Args:
        shown: the name to use in errors, such as the URL of a cached file. If None, the path.
        sha256: what `content_sha256` returns for the path, if it is known already.

    Raises:
        CorpusError: where, what was found, and what was expected.
    """
    path = Path(path)
    arguments = {"path": str(path), "shown": shown or str(path), "columns": tuple(columns)}
    key = {"sha256": sha256 or content_sha256(path), "version": VERSION}
    return cached(generate_rows, ROWS, arguments | key, cache_dir)


def rows_of_dataset(
    data: datasets.Dataset, name: str, columns: Columns, cache_dir: str | None
) -> datasets.Dataset:
    """The rows of one split of a data set with a column of words and one of tags. `name` is for errors."""
    arguments = {"data": data, "name": name, "columns": tuple(columns), "version": VERSION}
    return cached(generate_rows_of_dataset, ROWS, arguments, cache_dir)


def cached(
    generate: Callable[..., Iterator[dict]],
    features: datasets.Features,
    arguments: Mapping[str, object],
    cache_dir: str | None,
) -> datasets.Dataset:
    """What a generator yields, as an Arrow file.

    No argument may be a list, which `from_generator` would divide into shards.
    """
    with unwrapped(cache_dir):
        return datasets.Dataset.from_generator(
            generate, features=features, cache_dir=cache_dir, gen_kwargs=dict(arguments)
        )


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
    """Yield complete rows of one split of a data set."""
    chosen = Columns(*columns).choose(data.column_names, name)
    if not len(data):
        raise CorpusError(f"{name}: found no row; expected one for each sentence")
    for place, record in data_set_records(data, name):
        yield {"spaces": None, "lost": [], **row_of(record, chosen, place)}


def read_rows(path: Path, shown: str, columns: Columns) -> Iterator[dict]:
    """Yield the sentences of a file in any known format, which its name and its beginning tell."""
    try:
        kind = kind_of(path, columns)
        if kind == "words":
            yield from read_word_lines(path, shown)
        elif kind == "records":
            yield from read_records(path, columns)
        else:
            yield from document_rows(path, columns)
    except (FormatError, BadDocument) as error:
        raise CorpusError(str(error)) from None


def kind_of(path: Path, columns: Columns) -> str:
    """`words` (a tagged word a line), `records` (lists of words and tags) or `documents` (text and spans).

    Raises:
        CorpusError: a name that no known format has, or a packed file of words.
    """
    suffix = suffix_of(path)  # without .gz
    if path.is_dir() or suffix in DOCUMENTS or is_brat(path):
        return "documents"
    if suffix in WORD_LINES and TITLE_LINE.match(head_of(path).lstrip()):
        return "documents"
    if suffix not in (*WORD_LINES, *RECORDS):
        known = ", ".join((*WORD_LINES, *RECORDS, *DOCUMENTS))
        raise CorpusError(
            f"{path}: found a file name that ends with '{path.suffix}'; expected one of {known}, or a folder "
            "of BRAT"
        )
    if path.suffix.lower() == ".gz":
        raise CorpusError(f"{path}: found a packed file; expected {path.stem} (unpack it with gunzip)")
    if suffix in WORD_LINES:
        return "words"
    return "documents" if suffix != ".csv" and holds_documents(path, columns) else "records"


def is_brat(path: Path) -> bool:
    """Whether a file is a text with annotations beside it, or such annotations."""
    return path.suffix.lower() in BRAT and all(beside(path, suffix).is_file() for suffix in BRAT)


def document_rows(path: Path, columns: Columns) -> Iterator[dict]:
    """Yield the rows of documents with spans. A document that can't be read is an error."""
    for flag, value in (
        ("label_column_name", columns.label),
        ("document_column_name", columns.document),
    ):
        if value:
            raise CorpusError(
                f"--{flag}: '{value}' has no effect on text with spans, as in {path}; leave it out"
            )
    lost: list[str] = []  # of documents without a word
    for document in numbered(documents_of(path, columns.text or "text")):
        rows = list(rows_of(document))
        lost += [] if rows else ["space"] * len(document.entities)
        for row in rows:
            yield {**row, "lost": row["lost"] + lost}
            lost = []


def documents_of(path: Path, text_column: str) -> Iterator[Document]:
    """Yield the documents of a file or of a BRAT folder, where each text needs its annotations."""
    texts = [file for file in document_files([path]) if suffix_of(file) == TEXT] if path.is_dir() else []
    bare = [text for text in texts if not is_brat(text)]
    if bare and len(bare) < len(texts):
        raise CorpusError(
            f"{bare[0]}: found no annotations beside this text; expected {bare[0].stem}.ann, empty if the "
            "text has no entity (or move the text out of the folder)"
        )
    for document in read_documents(path, text_column=text_column):
        if isinstance(document, Unreadable):
            raise CorpusError(f"{document.place}: {document.reason}")
        yield document


def numbered(documents: Iterator[Document]) -> Iterator[Document]:
    """Give documents of the same id different ones, so that they are not taken for one document."""
    counts: collections.Counter[str] = collections.Counter()
    for document in documents:
        counts[document.id] += 1
        number = counts[document.id]
        yield document if number == 1 else dataclasses.replace(document, id=f"{document.id}#{number}")


def content_sha256(path: Path) -> str:
    """The checksum of a file; of a folder or a BRAT pair, that of the names and checksums of its files."""
    if path.is_file() and not is_brat(path):
        return file_sha256(path)
    try:
        files = document_files([path]) if path.is_dir() else [path]
    except FormatError as error:
        raise CorpusError(str(error)) from None
    parts = {part for file in files for part in (file, *(beside(file, s) for s in BRAT)) if part.is_file()}
    digest = hashlib.sha256()
    for part in sorted(parts):
        name = part.relative_to(path) if path.is_dir() else part.name
        digest.update(f"{name} {file_sha256(part)}\n".encode())
    return digest.hexdigest()
