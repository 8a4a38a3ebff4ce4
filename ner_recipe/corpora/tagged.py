"""Files whose words are tagged one by one -> rows: CoNLL-style text, and records with a list of words each.

    for row in read_conll("train.tsv"): ...
    for row in read_records("train.jsonl", Columns()): ...

A row is one sentence: `document` (None if unknown), `tokens`, `tags` as written, and where it stands:
`place`, and `lines`, the line of each word, if each has its own.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow
import pyarrow.parquet

from jnlpba_dataset import DOCUMENT_MARK, CorpusError, raw_lines, read_lines

TOKEN_COLUMNS = ("tokens", "words")
TAG_COLUMNS = ("ner_tags", "tags", "labels")
DOCUMENT_COLUMNS = ("document_id", "doc_id", "pmid")
MARK = re.compile(rf"\s*{DOCUMENT_MARK}(\s|$)".encode())
LOOKS_LIKE_TAG = re.compile(r"O|[BIELSUMW](-.+)?")


class Columns(NamedTuple):
    """The names of the columns of a record; None for the usual ones."""

    text: str | None = None
    label: str | None = None
    document: str | None = None

    def choose(self, names: list[str], place: str) -> "Columns":
        """The columns that a file has.

        Raises:
            CorpusError: it has none of the wanted name.
        """
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
                    f"{wanted or ' or '.join(usual)} (name the column with --{flag})"
                )
            chosen.append(found)
        return Columns(*chosen)


class Layout(NamedTuple):
    """How the lines of a CoNLL-style file are divided: at tabs or at any white space, into so many fields."""

    tabs: bool
    fields: int

    def split(self, line: str) -> list[str]:
        return line.split("\t") if self.tabs else line.split()


def read_conll(path: str | Path, shown: str | None = None) -> Iterator[dict]:
    """Yield the sentences of a file with one word a line: first field the word, last field the tag.

    Fields are divided by tabs, or by white space if the first word's line has no tab. A blank line ends a
    sentence. A line -DOCSTART- starts a document. `#` starts a comment unless the line is a word and its tag.

    Args:
        shown: the name to use in errors, such as the URL of a cached file. If None, the path.

    Raises:
        CorpusError: FILE:LINE: found ...; expected ...
    """
    shown = shown or str(path)
    marked = any(MARK.match(line) for line in raw_lines(path))
    document = -1
    layout: Layout | None = None
    words: list[tuple[str, str, int]] = []
    for number, line in enumerate(read_lines(path, shown), start=1):
        place = f"{shown}:{number}"
        starts_document = line.split(maxsplit=1)[:1] == [DOCUMENT_MARK]
        if (starts_document or not line.strip()) and words:
            yield sentence(shown, document if marked else None, words)
            words = []
        if starts_document:
            document += 1
        if starts_document or not line.strip():
            continue
        if is_comment(line, layout):
            continue
        layout = layout or layout_of(line, place)
        words.append((*word_and_tag(line, layout, place), number))
        document = max(document, 0)  # there may be words before the first mark
    if words:
        yield sentence(shown, document if marked else None, words)
    if layout is None:
        raise CorpusError(f"{shown}: found no sentence; expected lines with a word and its tag")


def sentence(shown: str, document: int | None, words: list[tuple[str, str, int]]) -> dict:
    """One row. The file is named in `place`, and the line of each word in `lines`."""
    tokens, tags, lines = (list(values) for values in zip(*words, strict=True))
    named = None if document is None else str(document)
    return {"document": named, "tokens": tokens, "tags": tags, "place": shown, "lines": lines}


def is_comment(line: str, layout: Layout | None) -> bool:
    """Whether a line that starts with # is a comment, not the word # (or #1) with a tag."""
    if not line.startswith("#"):
        return False
    fields = (layout or layout_of(line)).split(line)
    expected = layout.fields if layout else 2
    return len(fields) != expected or not LOOKS_LIKE_TAG.fullmatch(fields[-1].strip())


def layout_of(line: str, place: str | None = None) -> Layout:
    """The layout of the file whose first word stands in this line.

    Raises:
        CorpusError: the line has a single field, and `place` is given.
    """
    tabs = "\t" in line
    fields = len(Layout(tabs, 0).split(line))
    if fields < 2 and place:
        raise CorpusError(
            f"{place}: found {line[:60]!r}; expected a word and its tag, with a tab or a space between"
        )
    return Layout(tabs, fields)


def word_and_tag(line: str, layout: Layout, place: str) -> tuple[str, str]:
    """The first and the last field of a line.

    Raises:
        CorpusError: another number of fields than in the file's first line, or an empty word.
    """
    fields = layout.split(line)
    divider = "tab" if layout.tabs else "space"
    if len(fields) != layout.fields:
        raise CorpusError(
            f"{place}: found {len(fields)} field{'s'[: len(fields) != 1]}: {line[:60]!r}; expected "
            f"{layout.fields} with a {divider} between, as in the first line of the file"
        )
    word, tag = fields[0].strip(), fields[-1].strip()
    if not word:
        raise CorpusError(f"{place}: found an empty word; expected a word and its tag")
    return word, tag


def read_records(path: str | Path, columns: Columns) -> Iterator[dict]:
    """Yield the sentences of a file of records, each with a list of words and one of tags.

    The file is JSON, JSON lines, CSV or Parquet, by its name. In CSV a list is written in JSON, or as its
    items with spaces between.

    Raises:
        CorpusError: where, what was found, and what was expected.
    """
    chosen = None
    for place, record in records(Path(path)):
        chosen = chosen or columns.choose(list(record), place)
        yield row_of(record, chosen, place)
    if chosen is None:
        raise CorpusError(f"{path}: found no record; expected one for each sentence")


def row_of(record: Mapping, columns: Columns, place: str) -> dict:
    """The row of one record, its lists checked."""
    tokens, tags = (as_list(record.get(name), name, place) for name in (columns.text, columns.label))
    if len(tokens) != len(tags):
        raise CorpusError(
            f"{place}: found {len(tokens)} words in '{columns.text}' and {len(tags)} tags in "
            f"'{columns.label}'; expected one tag for each word"
        )
    if not tokens:
        raise CorpusError(f"{place}: found no words in '{columns.text}'; expected at least one")
    for name, values in ((columns.text, tokens), (columns.label, tags)):
        strange = next((value for value in values if not isinstance(value, str) or not value.strip()), None)
        if strange is not None:
            what = (
                "the names of the tags" if isinstance(strange, int) else "words and tags that are not empty"
            )
            raise CorpusError(f"{place}: found {strange!r} in '{name}'; expected {what}")
    document = record.get(columns.document) if columns.document else None
    return {
        "document": None if document is None else str(document),
        "tokens": tokens,
        "tags": tags,
        "place": place,
        "lines": None,
    }


def as_list(value: object, name: str, place: str) -> list:
    """A list as it is, or written as text: in JSON, or with spaces between its items."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.lstrip().startswith("[") else value.split()
        except ValueError:
            raise CorpusError(
                f"{place}: found {value[:60]!r} in '{name}'; expected a list in JSON, or items with spaces "
                "between"
            ) from None
    if not isinstance(value, list):
        found = "nothing" if value is None else f"{type(value).__name__} {str(value)[:60]}"
        raise CorpusError(f"{place}: found {found} in '{name}'; expected a list of words or tags")
    return value


def records(path: Path) -> Iterator[tuple[str, dict]]:
    """Yield each record of a file with its place."""
    if path.suffix == ".parquet":
        yield from parquet_records(path)
    elif path.suffix == ".csv":
        yield from csv_records(path)
    elif path.suffix == ".json":
        yield from json_records(path)
    else:
        for number, line in enumerate(read_lines(path, str(path)), start=1):
            if line.strip():
                place = f"{path}:{number}"
                yield place, parse_json(line, place)


def holds_documents(path: Path, columns: Columns) -> bool:
    """Whether the first record of a file is a text rather than a list of words."""
    first = next((record for _, record in records(path)), {})
    if {"documents", "passages"} & set(first):  # BioC
        return True
    return isinstance(first.get(columns.text or "text"), str) and not any(
        isinstance(first.get(name), list) for name in TOKEN_COLUMNS
    )


def parse_json(text: str, place: str) -> dict:
    """One JSON object.

    Raises:
        CorpusError: something else.
    """
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorpusError(
            f"{place}: found {text[:60]!r} ({error}); expected one JSON object in a line"
        ) from None
    if not isinstance(record, dict):
        raise CorpusError(f"{place}: found {type(record).__name__}; expected a JSON object")
    return record


def json_records(path: Path) -> Iterator[tuple[str, dict]]:
    """Yield the objects of a JSON list. JSON lines under this name are read too."""
    text = "\n".join(read_lines(path, str(path)))
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield f"{path}:{number}", parse_json(line, f"{path}:{number}")
        return
    if isinstance(whole, dict) and isinstance(whole.get("data"), list):
        whole = whole["data"]  # as the examples of transformers write it
    for number, record in enumerate(whole if isinstance(whole, list) else [whole], start=1):
        if not isinstance(record, dict):
            raise CorpusError(f"{path}: found {type(record).__name__} as record {number}; expected an object")
        yield f"{path}, record {number}", record


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
                for record in batch.to_pylist():
                    number += 1
                    for column, labels in names.items():
                        record[column] = [labels[value] for value in record[column] or ()]
                    yield f"{path}, row {number}", record
    except (pyarrow.ArrowException, OSError, IndexError) as error:
        raise CorpusError(
            f"{path}: not Parquet ({' '.join(str(error).split())[:200]}); expected a Parquet file"
        ) from None


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
