"""What annotate.py shows: a progress bar while it works, and a summary at the end.

with Progress(job, disable=False) as progress: run_task(job, 0, 1, progress.add)
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tqdm.auto import tqdm

from ner_recipe.annotation.output import CHUNKS, FAILED
from ner_recipe.annotation.run import Job


class Progress:
    """Counts the documents and words of this run, and shows them as a bar.

    How many documents there will be is only known at the end. It is estimated from the sizes of the sources
    once one of them has been read to its end.
    """

    def __init__(self, job: Job, disable: bool):
        self.job = job
        self.start = time.perf_counter()
        self.words = 0
        self.documents: dict[int, int] = {}  # of each source, in this run
        self.sizes = {source.number: source.bytes for source in job.sources}
        self.bar = tqdm(desc="Annotating", unit=" documents", smoothing=0.1, disable=disable)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error) -> None:
        self.bar.close()

    def add(self, source: int, counts: Mapping) -> None:
        """Count a chunk that was written."""
        self.words += counts["words"]
        self.documents[source] = self.documents.get(source, 0) + counts["documents"]
        self.bar.total = self.estimate(source)
        self.bar.update(counts["documents"])

    def estimate(self, current: int) -> int | None:
        """How many documents there will be, if all sources hold as many a byte as those before this one."""
        before = [number for number in self.documents if number != current]
        size = sum(self.sizes[number] for number in before)
        if not size:
            return None
        documents = sum(self.documents[number] for number in before)
        return max(sum(self.documents.values()), round(documents * sum(self.sizes.values()) / size))

    @contextlib.contextmanager
    def watching(self, seconds: float = 0.5) -> Iterator[None]:
        """Count the chunks that other processes write meanwhile."""
        folder = self.job.output_dir / CHUNKS
        seen = {path.name for path in folder.glob("*-*.json")}
        stop = threading.Event()

        def look() -> None:
            for path in sorted(folder.glob("*-*.json")):
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
        documents = sum(self.documents.values())
        return (
            f"This run: {documents:,} documents and {self.words:,} words in {seconds:,.1f} s, "
            f"{documents / seconds:,.1f} documents/s, {self.words / seconds:,.0f} words/s with loading"
        )


def render_summary(total: Mapping, output_dir: Path, page: Path | None) -> str:
    """The counts of the whole output, as text."""
    entities = ", ".join(f"{label} {count:,}" for label, count in total["entities"].items())
    lines = [
        f"Documents: {total['documents']:,}",
        f"Words: {total['words']:,}",
        f"Entities: {sum(total['entities'].values()):,}" + (f" ({entities})" if entities else ""),
        f"Failures: {len(total['failed']):,}" + (f" ({output_dir / FAILED})" if total["failed"] else ""),
        f"Output: {output_dir}",
    ]
    return "\n".join(lines + ([f"Page: {page}"] if page else []))
