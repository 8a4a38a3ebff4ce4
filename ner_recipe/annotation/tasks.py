"""Which processes do the tasks of annotate.py: this one, or several.

do_tasks(given, job, progress)
"""

import argparse

import torch

from ner_recipe.annotation.progress import Progress
from ner_recipe.annotation.run import Job, run_task
from ner_recipe.launch import UsageError, usable_cores, use_cores


def do_tasks(given: argparse.Namespace, job: Job, progress: Progress) -> None:
    """Do one task (--rank), or all of them in one process or in several (--workers).

    Raises:
        UsageError: several processes without datatrove.
    """
    use_cores(torch.device(job.settings.device))
    if given.rank is not None:
        run_task(job, given.rank, given.tasks, progress.add)
    elif given.workers == 1:
        run_task(job, 0, 1, progress.add)
    else:
        try:
            from ner_recipe.annotation.step import run_workers
        except ImportError as error:
            raise UsageError(
                f"--workers: more than 1 needs datatrove ({error}); pip install -e '.[datatrove]', or "
                "start the command once for each --rank"
            ) from None
        with progress.watching():
            run_workers(job, given.tasks, given.workers, threads=max(1, usable_cores() // given.workers))
