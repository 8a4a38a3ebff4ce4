"""What annotate.py shows: a progress bar while it works, and a summary at the end.

with Progress(job, given) as progress: run_task(job, 0, 1, progress.add)
"""

import argparse
import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tqdm.auto import tqdm

from ner_recipe.annotation.output import CHUNKS, FAILED
from ner_recipe.annotation.plan import belongs_to, documents_per_byte
from ner_recipe.annotation.run import Job
from ner_recipe.launch import visible


class Progress:
    """Counts what this run does, and shows it as a bar that begins with what earlier runs did.

    The number of documents is known only at the end. It is estimated by size: from the complete sources, or
    from the start of the first source while none is complete. With --rank it is that of the task.
    """

    def __init__(self, job: Job, given: argparse.Namespace):
        self.job, self.rank, self.tasks = job, given.rank, given.tasks
        self.start = time.perf_counter()
        self.words = self.documents = 0  # of this run
        self.sizes = {source.number: source.bytes for source in job.sources if self.takes_part(source.number)}
        self.known = dict.fromkeys(self.sizes, 0)  # documents of each source, with those of earlier runs
        self.complete: set[int] = set()
        for path in self.chunk_files():
            source, chunk = map(int, path.stem.split("-"))
            if self.is_mine(source, chunk) and job.output.has(source, chunk):
                self.known[source] += json.loads(path.read_text(encoding="utf-8"))["documents"]
        share = 1 if self.rank is None or len(job.sources) >= self.tasks else 1 / self.tasks
        self.sampled = share * (documents_per_byte(job.sources[0], job.settings) or 0)
        self.bar = tqdm(
            desc="Annotating",
            unit=" documents",
            smoothing=0.1,
            disable=given.disable_tqdm,
            initial=sum(self.known.values()),
            total=self.estimate(),
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error) -> None:
        self.bar.close()

    def chunk_files(self) -> list[Path]:
        return sorted((self.job.output_dir / CHUNKS).glob("*-*.json"))

    def takes_part(self, source: int) -> bool:
        """Whether this process may do a chunk of a source."""
        return len(self.job.sources) < self.tasks or self.is_mine(source, 0)

    def is_mine(self, source: int, chunk: int) -> bool:
        count = len(self.job.sources)
        return self.rank is None or belongs_to(self.rank, self.tasks, source, chunk, count)

    def add(self, source: int, counts: Mapping) -> None:
        """Count a chunk that was written."""
        self.words += counts["words"]
        self.documents += counts["documents"]
        self.known[source] += counts["documents"]
        self.bar.total = self.estimate()
        self.bar.update(counts["documents"])

    def estimate(self) -> int | None:
        """How many documents there will be, if the other sources hold as many a byte."""
        open_ones = self.sizes.keys() - self.complete
        self.complete |= {number for number in open_ones if self.job.output.has_all(number)}
        size = sum(self.sizes[number] for number in self.complete)
        found = sum(self.known[number] for number in self.complete)
        density = found / size if found and size else self.sampled
        left = sum(self.sizes.values()) - size
        if left and not density:
            return None
        return max(sum(self.known.values()), found + round(density * left))

    @contextlib.contextmanager
    def watching(self, seconds: float = 0.5) -> Iterator[None]:
        """Count the chunks that other processes write meanwhile."""
        seen = {path.name for path in self.chunk_files()}
        stop = threading.Event()

        def look() -> None:
            for path in self.chunk_files():
                if path.name not in seen:
                    seen.add(path.name)
                    self.add(int(path.name.split("-")[0]), json.loads(path.read_text(encoding="utf-8")))

        def watch() -> None:
            while not stop.wait(seconds):
                look()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()
            look()

    def rates(self) -> str:
        """What this run did, and how fast."""
        seconds = time.perf_counter() - self.start
        return (
            f"This run: {self.documents:,} documents and {self.words:,} words in {seconds:,.1f} s, "
            f"{self.documents / seconds:,.1f} documents/s, {self.words / seconds:,.0f} words/s with loading"
        )


def render_summary(total: Mapping, output_dir: Path, page: Path | None) -> str:
    """The counts of the whole output, as text."""
    entities = ", ".join(f"{visible(label)} {count:,}" for label, count in total["entities"].items())
    lines = [
        f"Documents: {total['documents']:,}",
        f"Words: {total['words']:,}",
        f"Entities: {sum(total['entities'].values()):,}" + (f" ({entities})" if entities else ""),
        f"Failures: {len(total['failed']):,}" + (f" ({output_dir / FAILED})" if total["failed"] else ""),
        f"Output: {output_dir}",
    ]
    return "\n".join(lines + ([f"Page: {page}"] if page else []))
