"""One task of annotate.py: its chunks, one after the other, from documents to files.

    run_task(job, rank=0, tasks=1, progress=print)

A complete chunk is never computed again, so the same task goes on after a kill.
"""

import dataclasses
import functools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ner_recipe.annotation.engine import load_engine
from ner_recipe.annotation.output import FAILED, Output, annotated
from ner_recipe.annotation.plan import Source, belongs_to, chunks_of
from ner_recipe.annotation.settings import Settings
from ner_recipe.annotation.windows import word_ranges
from ner_recipe.formats.document import Document, Unreadable
from ner_recipe.launch import UsageError


@dataclasses.dataclass(frozen=True)
class Job:
    """All that a process needs to know to do a task."""

    model: Path
    settings: Settings
    sources: tuple[Source, ...]
    output_dir: Path

    @property
    def output(self) -> Output:
        return Output(self.output_dir, self.settings)


class SomeFailed(UsageError):
    """Some documents could not be read or written; the other documents were annotated."""

    exit_code = 3

    def __init__(self, failures: Sequence[Mapping], output_dir: Path):
        first = failures[0]
        super().__init__(
            f"{len(failures)} failed, the first at {first['place']}: {first['reason']}\n"
            f"  All failures are in {output_dir / FAILED}; everything else was written"
        )


class Chunk(NamedTuple):
    """The documents of a chunk, and those that can't be read."""

    source: int
    number: int
    documents: list[Document]
    failures: list[Unreadable]


def run_task(job: Job, rank: int, tasks: int, progress: Callable[[int, Mapping], None]) -> None:
    """Annotate the chunks of a task that are not complete.

    Args:
        progress: is called with the source and the counts of each chunk that was written.

    Raises:
        UsageError: another process does this task, or the model can't be loaded.
    """
    output = job.output
    with output.locked(rank, tasks) as unfinished:
        if all(output.has_all(source.number) for source in job.sources):
            return
        engine = load_engine(job.model, job.settings)
        words = functools.partial(word_ranges, engine.tokenizer)
        waiting: deque[Chunk] = deque()

        def texts() -> Iterator[list[str]]:
            for chunk in chunks_to_do(job, rank, tasks, unfinished):
                waiting.append(chunk)
                yield [document.text for document in chunk.documents]

        for answers in engine.annotate_chunks(texts()):
            chunk = waiting.popleft()
            documents = [
                annotated(document, found) for document, found in zip(chunk.documents, answers, strict=True)
            ]
            place = (chunk.source, chunk.number)
            counts = output.write_chunk(*place, documents, chunk.failures, words, unfinished)
            progress(chunk.source, counts)


def chunks_to_do(job: Job, rank: int, tasks: int, unfinished: Path) -> Iterator[Chunk]:
    """Read the chunks of a task that are not complete, and note how many chunks each source has."""
    output, count = job.output, len(job.sources)
    for source in job.sources:
        others = count >= tasks and source.number % tasks != rank
        if others or output.has_all(source.number):
            continue
        chunks = 0
        for number, items in chunks_of(source, job.settings):
            chunks = number + 1
            mine = belongs_to(rank, tasks, source.number, number, count)
            if mine and not output.has(source.number, number):
                failures = [item for item in items if isinstance(item, Unreadable)]
                documents = [item for item in items if isinstance(item, Document)]
                yield Chunk(source.number, number, documents, failures)
        output.write_length(source.number, chunks, unfinished)
