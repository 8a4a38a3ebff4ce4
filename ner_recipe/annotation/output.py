"""The output folder of annotate.py: a part for each chunk, and what is known of the chunk.

    OUT/manifest.json             model, settings and inputs (manifest.py)
    OUT/part-00000-00000.jsonl    the entities of a chunk: numbers of source and chunk
    OUT/bioc/part-00000-00000.json    and so on, with --convert_to
    OUT/chunks/00000-00000.json   the chunk's counts and failures. Written last: the chunk is complete
    OUT/chunks/00000.json         how many chunks the source has
    OUT/failed.jsonl, OUT/summary.json    written once all chunks are complete

Each file takes its place whole. Two processes that write the same chunk write the same bytes.
"""

import contextlib
import dataclasses
import errno
import itertools
import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import filelock
import pyarrow as pa
import pyarrow.parquet as pq

from ner_recipe.annotation.plan import Source
from ner_recipe.annotation.settings import CONVERSIONS, Settings
from ner_recipe.formats.conll import Words
from ner_recipe.formats.document import (
    LINE_BREAKS,
    Document,
    Entity,
    FormatError,
    PlaceError,
    Unreadable,
    shown,
)
from ner_recipe.formats.json_rows import LINE_ENDS
from ner_recipe.formats.writing import write_documents
from ner_recipe.launch import UsageError
from ner_recipe.reports.files import write_text

SUMMARY, FAILED, CHUNKS = "summary.json", "failed.jsonl", "chunks"
ENTITY_TYPE = pa.struct(
    [("start", pa.int64()), ("end", pa.int64()), ("label", pa.string()), ("text", pa.string())]
    + [("score", pa.float64())]
)


@dataclasses.dataclass(frozen=True)
class Output:
    """A folder, and how its parts are written."""

    folder: Path
    settings: Settings

    @contextlib.contextmanager
    def locked(self, rank: int, tasks: int) -> Iterator[Path]:
        """A folder for unfinished files, for as long as no other process does the same task.

        Raises:
            UsageError: another process does.
        """
        name = f"rank-{rank}-of-{tasks}"
        chunks = self.folder / CHUNKS
        chunks.mkdir(exist_ok=True)
        try:
            with filelock.FileLock(chunks / f".{name}.lock", blocking=False):
                unfinished = chunks / f".{name}"
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                yield unfinished
                shutil.rmtree(unfinished)
        except filelock.Timeout:
            raise UsageError(
                f"--output_dir: another process works on task {rank} of {tasks} in {self.folder}; wait for "
                "it, or give each process its own --rank"
            ) from None

    def part(self, source: int, chunk: int) -> Path:
        return self.folder / f"part-{source:05d}-{chunk:05d}.{self.settings.output_format}"

    def counts(self, source: int, chunk: int) -> Path:
        return self.folder / CHUNKS / f"{source:05d}-{chunk:05d}.json"

    def has(self, source: int, chunk: int) -> bool:
        """Whether a chunk is complete."""
        part, counts = self.part(source, chunk), known_counts(self.counts(source, chunk))
        return (
            part.exists()
            and counts.get("bytes") == part.stat().st_size
            and all(self.converted(name, source, chunk).exists() for name in self.settings.convert_to)
        )

    def converted(self, name: str, source: int, chunk: int) -> Path:
        """A chunk in a further format."""
        return self.folder / name / f"part-{source:05d}-{chunk:05d}{CONVERSIONS[name]}"

    def chunks_in(self, source: int) -> int | None:
        """How many chunks a source has, if a process has read it to its end."""
        return known_counts(self.folder / CHUNKS / f"{source:05d}.json").get("chunks")

    def has_all(self, source: int) -> bool:
        """Whether every chunk of a source is complete."""
        count = self.chunks_in(source)
        return count is not None and all(self.has(source, chunk) for chunk in range(count))

    def write_length(self, source: int, chunks: int, unfinished: Path) -> None:
        """Note how many chunks a source has.

        Raises:
            UsageError: another process counted another number, so the files are not the same.
        """
        known = self.chunks_in(source)
        if known not in (None, chunks):
            raise UsageError(
                f"--output_dir: source {source} had {known} chunks and has {chunks}; use another folder"
            )
        self.put(unfinished, Path(CHUNKS, f"{source:05d}.json"), json.dumps({"chunks": chunks}) + "\n")

    def write_chunk(
        self,
        source: int,
        chunk: int,
        documents: Sequence[Document],
        failures: Sequence[Unreadable],
        words: Words,
        unfinished: Path,
    ) -> dict:
        """Write a chunk in all formats, and last its counts, which are returned."""
        failures = list(failures)
        for name in self.settings.convert_to:
            place = self.converted(name, source, chunk)
            failures += self.convert(documents, name, place, words, unfinished)
        part = self.part(source, chunk)
        write = {"jsonl": write_json_lines, "parquet": write_parquet}[self.settings.output_format]
        write(unfinished / part.name, documents, self.settings.with_text)
        (unfinished / part.name).replace(part)
        counts = {
            "bytes": part.stat().st_size,
            "documents": len(documents),
            "words": sum(len(document.text.split()) for document in documents),
            "entities": dict(
                sorted(Counter(one.label for document in documents for one in document.entities).items())
            ),
            "failed": [failure._asdict() for failure in by_place(failures)],
        }
        place = self.counts(source, chunk).relative_to(self.folder)
        self.put(unfinished, place, json.dumps(counts, ensure_ascii=False) + "\n")
        return counts

    def put(self, unfinished: Path, place: Path, text: str) -> None:
        """Write a small file in the output folder."""
        part = unfinished / place.name
        part.write_text(text, encoding="utf-8")
        part.replace(self.folder / place)

    def convert(
        self, documents: Sequence[Document], name: str, place: Path, words: Words, unfinished: Path
    ) -> list[Unreadable]:
        """Write a chunk in a further format; return the documents that the format can't hold."""
        scratch = unfinished / f"{name}-{place.name}"
        place.parent.mkdir(exist_ok=True)
        if name == "pubtator":
            documents = [on_two_lines(document) for document in documents]
        fitting, failures = documents, []
        try:
            try:
                write_documents(documents, scratch, name, words=words)
            except PlaceError:
                raise
            except FormatError:
                fitting, failures = sort_out(documents, name, words, scratch)
                write_documents(fitting, scratch, name, words=words)
        except PlaceError as error:
            raise UsageError(f"--convert_to {name}: {error}") from None
        put_in_place(scratch, place)
        return failures

    def summary(self, sources: Sequence[Source]) -> dict | None:
        """The counts of all chunks and every failure; None if a chunk is not complete."""
        total: dict = {"documents": 0, "words": 0, "entities": Counter(), "failed": []}
        for source in sources:
            if not self.has_all(source.number):
                return None
            for chunk in range(self.chunks_in(source.number)):
                counts = json.loads(self.counts(source.number, chunk).read_text(encoding="utf-8"))
                for name in total:
                    total[name] += Counter(counts[name]) if name == "entities" else counts[name]
        return total | {"entities": dict(sorted(total["entities"].items()))}

    def finishing(self) -> filelock.FileLock:
        """Held while a file about all chunks is written: two tasks may end at the same time."""
        return filelock.FileLock(self.folder / ".finish.lock")

    def finish(self, total: Mapping) -> None:
        """Write failed.jsonl, if a document failed, and summary.json."""
        rows = [json.dumps(failure, ensure_ascii=False) + "\n" for failure in total["failed"]]
        summary = {**total, "failed": len(rows)}
        with self.finishing():
            if rows:
                write_text(self.folder / FAILED, "".join(rows))
            write_text(self.folder / SUMMARY, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")


def put_in_place(new: Path, place: Path) -> None:
    """Replace a file or a folder, which is there as a whole or not at all.

    Another process that writes the same chunk may do so at the same time.
    """
    old = new.with_name(f"old-{new.name}")
    if place.is_dir():
        with contextlib.suppress(FileNotFoundError):
            place.replace(old)
    try:
        new.replace(place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        shutil.rmtree(new)  # the other process has put the same there
    shutil.rmtree(old, ignore_errors=True)


def known_counts(path: Path) -> dict:
    """The content of a file in CHUNKS; empty if it is missing or a power failure cut it short."""
    try:
        counts = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return counts if isinstance(counts, dict) else {}


def by_place(failures: Sequence[Unreadable]) -> list[Unreadable]:
    """The failures with one entry a document, whose reason names each format that can't hold it."""
    reasons: dict[str, list[str]] = {}
    for failure in failures:
        reasons.setdefault(failure.place, []).append(failure.reason)
    return [Unreadable(place, "; ".join(several)) for place, several in reasons.items()]


def refuse_labels(convert_to: Sequence[str], labels: Sequence[str]) -> None:
    """Refuse a further format that can't hold a label of the model."""
    for name, label in itertools.product(convert_to, labels):
        sample = Document("1", "x", (Entity(0, 1, label),))
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder, f"x{CONVERSIONS[name]}")  # the ending chooses JSON for BioC
            failures = sort_out([sample], name, lambda text: [(0, 1)], place)[1]
        if failures:
            raise UsageError(
                f"--convert_to {name}: found the label {shown(label)} of the model, which {name} can't hold; "
                f"leave {name} out"
            )


def annotated(document: Document, answers: Sequence[Mapping]) -> Document:
    """The document with the entities that the model found, and no others."""
    found = tuple(
        Entity(one["start"], one["end"], one["label"], score=round(one["score"], 4)) for one in answers
    )
    return dataclasses.replace(document, entities=found)


def on_two_lines(document: Document) -> Document:
    """The document as PubTator can hold it: of all line breaks, only the first line feed is kept.

    A space stands for each other one, so the offsets stay the same.
    """
    title, line_feed, abstract = document.text.partition("\n")
    text = title.translate(LINE_BREAKS) + line_feed + abstract.translate(LINE_BREAKS)
    return dataclasses.replace(document, text=text)


def sort_out(
    documents: Sequence[Document], name: str, words: Words, scratch: Path
) -> tuple[list[Document], list[Unreadable]]:
    """The documents that a format can hold, and why it can't hold the others."""
    fitting: list[Document] = []
    failures: list[Unreadable] = []
    names: set[str] = set()
    for document in documents:
        try:
            if name == "brat" and document.id.casefold() in names:
                raise FormatError(f"found the id '{document.id}' twice; expected one pair of files each")
            write_documents([document], scratch, name, words=words)
        except PlaceError:
            raise
        except FormatError as error:
            reason = re.sub(rf"^{re.escape(str(scratch))}: ", "", str(error))
            failures.append(Unreadable(document.place, f"--convert_to {name}: {reason}"))
        else:
            fitting.append(document)
            names.add(document.id.casefold())
            shutil.rmtree(scratch, ignore_errors=True)
    return fitting, failures


def rows_of(documents: Sequence[Document], with_text: bool) -> list[dict]:
    """The native form of documents."""
    return [
        {
            "id": document.id,
            **({"text": document.text} if with_text else {}),
            "entities": [
                {
                    "start": one.start,
                    "end": one.end,
                    "label": one.label,
                    "text": document.text[one.start : one.end],
                    "score": one.score,
                }
                for one in document.entities
            ],
        }
        for document in documents
    ]


def write_json_lines(path: Path, documents: Sequence[Document], with_text: bool) -> None:
    rows = (json.dumps(row, ensure_ascii=False) for row in rows_of(documents, with_text))
    text = "".join(row.translate(LINE_ENDS) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", newline="")


def write_parquet(path: Path, documents: Sequence[Document], with_text: bool) -> None:
    text = [("text", pa.string())] if with_text else []
    schema = pa.schema([("id", pa.string()), *text, ("entities", pa.list_(ENTITY_TYPE))])
    pq.write_table(pa.Table.from_pylist(rows_of(documents, with_text), schema=schema), path)


def read_part(path: Path) -> Iterator[dict]:
    """The rows of a part."""
    if path.suffix == ".parquet":
        yield from pq.read_table(path).to_pylist()
    else:
        with path.open(encoding="utf-8", newline="\n") as file:
            yield from map(json.loads, file)
