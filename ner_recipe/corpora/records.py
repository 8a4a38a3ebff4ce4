"""Records with a list of words and a list of tags -> rows: JSON, JSON lines, CSV, Parquet, data sets.

    for row in read_records("train.jsonl", Columns()): ...

A row is one sentence, as in word_lines.py, but its words have no lines of their own: `lines` is None.
"""

import contextlib
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import datasets
import pyarrow
import pyarrow.parquet

from jnlpba_dataset import CorpusError, read_lines
from ner_recipe.formats.json_rows import ENTITY_KEYS, list_items
from ner_recipe.formats.source import decoded, head_of

TOKEN_COLUMNS = ("tokens", "words")
TAG_COLUMNS = ("ner_tags", "tags", "labels")
DOCUMENT_COLUMNS = ("document_id", "doc_id", "pmid")


class Columns(NamedTuple):
    """The names of the columns of a record; None for the usual ones."""

    text: str | None = None
    label: str | None = None
    document: str | None = None

    def choose(self, names: Sequence[str], place: str) -> "Columns":
        """The columns that a file has.

        Raises:
            CorpusError: it has none of the wanted name.
        """
        annotated = any(key in names for key in ENTITY_KEYS)
        if annotated and self.text is None and not {"text", *TOKEN_COLUMNS} & set(names):
            raise CorpusError(
                f"{place}: found entities without 'text'; expected both (annotate.py writes them with "
                "--with_text)"
            )
        chosen = []
        for flag, wanted, usual in (
            ("text_column_name", self.text, TOKEN_COLUMNS),
            ("label_column_name", self.label, TAG_COLUMNS),
            ("document_column_name", self.document, DOCUMENT_COLUMNS),
        ):
            found = next((name for name in ([wanted] if wanted else usual) if name in names), None)
            if found is None and (wanted or usual is not DOCUMENT_COLUMNS):
                raise CorpusError(
                    f"{place}: found the columns {', '.join(names)}; expected "
                    f"{wanted or ' or '.join(usual)} (name the column with --{flag}), or 'text' and 'spans'"
                )
            chosen.append(found)
        return Columns(*chosen)


def read_records(path: str | Path, columns: Columns) -> Iterator[dict]:
    """Yield the sentences of a file of records, each with a list of words and one of tags.

    The file is JSON, JSON lines, CSV or Parquet, by its name. In CSV a list is written in JSON, or as its
    items with spaces between.

    Raises:
        CorpusError: where, what was found, and what was expected.
    """
    path = Path(path)
    chosen, count, longest = None, 0, 0
    for place, record in records(path):
        chosen = chosen or columns.choose(list(record), place)
        row = row_of(record, chosen, place)
        count, longest = count + 1, max(longest, len(row["tokens"]))
        yield row
    if chosen is None:
        raise CorpusError(f"{path}: found no record; expected one for each sentence")
    if path.suffix.lower() == ".csv" and longest == 1 and count > 1:
        raise CorpusError(
            f"{path}: found one word in each row; expected a sentence in each row (write a word a line to a "
            ".tsv file without a header instead)"
        )


def row_of(record: Mapping, columns: Columns, place: str) -> dict:
    """The row of one record, its lists checked."""
    tokens = strings(record.get(columns.text), columns.text, place, "words")
    tags = strings(record.get(columns.label), columns.label, place, "the names of tags")
    if len(tokens) != len(tags):
        raise CorpusError(
            f"{place}: found {len(tokens)} words in '{columns.text}' and {len(tags)} tags in "
            f"'{columns.label}'; expected one tag for each word"
        )
    if not tokens:
        raise CorpusError(f"{place}: found no words in '{columns.text}'; expected at least one")
    document = record.get(columns.document) if columns.document else None
    if not is_text(str(document)):
        raise CorpusError(
            f"{place}: found {document!r} in '{columns.document}'; expected the name of a document"
        )
    return {
        "document": None if document is None else str(document),
        "tokens": tokens,
        "tags": tags,
        "place": place,
        "lines": None,
    }


def strings(value: object, name: str, place: str, expected: str) -> list[str]:
    """A list of texts as it is, or written as text: in JSON, or with spaces between its items."""
    if isinstance(value, str):
        value = listed(value)
    if not isinstance(value, list):
        found = "nothing" if value is None else f"{type(value).__name__} {str(value)[:60]}"
        raise CorpusError(f"{place}: found {found} in '{name}'; expected a list of {expected}")
    for number, item in enumerate(value, start=1):
        if not isinstance(item, str) or not item.strip() or not is_text(item):
            raise CorpusError(f"{place}, word {number}: found {item!r} in '{name}'; expected {expected}")
    return value


def listed(text: str) -> list:
    """The items of a list that is written as text."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return text.split()
    is_list = isinstance(whole, list) and all(isinstance(item, str) for item in whole)
    return whole if is_list else text.split()


def is_text(item: str) -> bool:
    """Whether a string can be written as UTF-8 and holds no NUL."""
    return "\0" not in item and not any("\ud800" <= character <= "\udfff" for character in item)


def records(path: Path) -> Iterator[tuple[str, dict]]:
    """Yield each record of a file with its place."""
    match path.suffix.lower():
        case ".parquet":
            yield from parquet_records(path)
        case ".csv":
            yield from csv_records(path)
        case ".json" if head_of(path).lstrip()[:1] == b"[":
            yield from json_items(path, b"[")
        case ".json" if b'"data"' in head_of(path)[:200]:
            yield from json_items(path, b"{[")  # as the examples of transformers write it
        case _:
            for number, line in enumerate(read_lines(path, str(path)), start=1):
                if line.strip():
                    yield f"{path}:{number}", parse_json(line, f"{path}:{number}")


def holds_documents(path: Path, columns: Columns) -> bool:
    """Whether the first record of a file is a text with spans (or BioC) rather than a list of words."""
    if path.suffix.lower() == ".json" and any(
        f'"{key}"'.encode() in head_of(path) for key in ("documents", "passages")
    ):
        return True
    first = next((record for _, record in records(path)), {})
    text = first.get(columns.text or "text")
    return isinstance(text, str) and any(key in first for key in ENTITY_KEYS)


def json_items(path: Path, inside: bytes) -> Iterator[tuple[str, dict]]:
    """Yield the objects of a list, one in memory at a time."""
    for line, raw in list_items(path, inside):
        yield f"{path}:{line}", parse_json(decoded(raw, path, line), f"{path}:{line}")


def parse_json(text: str, place: str) -> dict:
    """One JSON object.

    Raises:
        CorpusError: something else.
    """
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{place}: found {text[:60]!r} ({error}); expected a JSON object") from None
    if not isinstance(record, dict):
        raise CorpusError(f"{place}: found {type(record).__name__}; expected a JSON object")
    return record


def csv_records(path: Path) -> Iterator[tuple[str, dict]]:
    """Yield the rows of a CSV file with a header."""
    csv.field_size_limit(2**31 - 1)
    reader = csv.DictReader(f"{line}\n" for line in read_lines(path, str(path)))
    try:
        for record in reader:
            place = f"{path}:{reader.line_num}"
            if None in record or None in record.values():
                raise CorpusError(
                    f"{place}: found another number of fields than in the header; expected "
                    f"{len(reader.fieldnames)}"
                )
            yield place, record
    except csv.Error as error:
        raise CorpusError(
            f"{path}:{reader.line_num}: not CSV ({error}); expected fields with commas between"
        ) from None


def parquet_records(path: Path) -> Iterator[tuple[str, dict]]:
    """Yield the rows of a Parquet file, read in batches. Label ids become names if the file holds them."""
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = class_names(file.schema_arrow.metadata or {})
            number = 0
            for batch in file.iter_batches(1000):
                for record in rows_of(batch, path, number):
                    number += 1
                    place = f"{path}, row {number}"
                    yield place, with_names(record, names, place)
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CorpusError(f"{path}: not Parquet ({reason}); expected a Parquet file") from None


def rows_of(batch: pyarrow.RecordBatch, path: Path, before: int) -> list[dict]:
    """The rows of a batch, which follow so many others of the file.

    Raises:
        CorpusError: a row holds text that is not UTF-8, as other programs may write.
    """
    with contextlib.suppress(UnicodeDecodeError):
        return batch.to_pylist()
    rows = []
    for row in range(batch.num_rows):
        try:
            rows += batch.slice(row, 1).to_pylist()
        except UnicodeDecodeError as error:
            found = f"byte 0x{error.object[error.start]:02x}"
            raise CorpusError(
                f"{path}, row {before + row + 1}: found {found} in a text; expected UTF-8"
            ) from None
    return rows


def class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """The names of the classes of each list of labels, as `datasets` stores them in a Parquet file."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError):
        return {}
    lists = {name: feature.get("feature") for name, feature in features.items() if isinstance(feature, dict)}
    return {
        name: inner["names"]
        for name, inner in lists.items()
        if isinstance(inner, dict) and inner.get("names")
    }


def data_set_records(data: datasets.Dataset, name: str) -> Iterator[tuple[str, dict]]:
    """Yield the rows of a data set. Label ids become names if it knows them."""
    inner = {column: getattr(feature, "feature", None) for column, feature in data.features.items()}
    names = {column: kind.names for column, kind in inner.items() if isinstance(kind, datasets.ClassLabel)}
    for number, record in enumerate(data, start=1):
        yield f"{name}, row {number}", with_names(record, names, f"{name}, row {number}")


def with_names(record: dict, names: Mapping[str, Sequence[str]], place: str) -> dict:
    """The record with names instead of label ids.

    A file keeps what `datasets` noted of its columns when another program removes one or puts names in it.

    Raises:
        CorpusError: an id that has no name, such as -1 or null.
    """
    for column, labels in names.items():
        ids = record.get(column)
        if not isinstance(ids, list) or not all(isinstance(label, int | None) for label in ids):
            continue
        for number, label in enumerate(ids, start=1):
            if label is None or not 0 <= label < len(labels):
                raise CorpusError(
                    f"{place}, word {number}: found the label id {label} in '{column}'; expected 0 to "
                    f"{len(labels) - 1}"
                )
        record = {**record, column: [labels[label] for label in ids]}
    return record
