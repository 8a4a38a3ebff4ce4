"""Find the entities in files of text with a trained model: millions of documents, exact offsets, restartable.

    python annotate.py outputs/quickstart abstracts/ --output_dir entities
    python annotate.py USER/NAME 'pubmed/*.xml.gz' --output_dir entities --workers 8
    python annotate.py --help

After a kill the same command goes on. docs/serving.md describes inputs, outputs and work on many machines.
"""

import argparse
import sys
from collections.abc import Sequence

from ner_recipe.annotation.page import write_page
from ner_recipe.annotation.progress import Progress, render_summary
from ner_recipe.annotation.run import SomeFailed
from ner_recipe.annotation.settings import PROGRAM, Settings, parse
from ner_recipe.annotation.tasks import do_tasks, prepare
from ner_recipe.launch import run_command


def work(given: argparse.Namespace, settings: Settings) -> None:
    """Do the tasks that are not complete, and show what was found."""
    job = prepare(given, settings)
    total = job.output.summary(job.sources)
    if total is None:
        with Progress(job, given) as progress:
            do_tasks(given, job, progress)
        print(progress.rates())
        total = job.output.summary(job.sources)
    else:
        print(f"{given.output_dir} is complete; nothing was computed")
    if total is None:
        print(f"Task {given.rank} of {given.tasks} is complete; others are still open")
        return
    job.output.finish(total)
    page = write_page(job.output, job.sources, total) if given.html else None
    print(render_summary(total, given.output_dir, page))
    if total["failed"]:
        raise SomeFailed(total["failed"], given.output_dir)


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    return run_command(PROGRAM, argv, parse, work, "the same command goes on where it stopped")


if __name__ == "__main__":
    sys.exit(main())
