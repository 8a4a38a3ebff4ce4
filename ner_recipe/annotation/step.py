"""The annotator as a step of datatrove, for processes on this machine, Slurm or Ray.

LocalPipelineExecutor([AnnotateStep(job, threads=1)], tasks=8, workers=4, logging_dir=FOLDER).run()

datatrove is an extra: pip install -c constraints.txt -e '.[datatrove]'. It marks each finished task in its
logging folder.
"""

import dataclasses
import os
import threading
import time
from collections.abc import Mapping

import torch
from datatrove.data import DocumentsPipeline
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger

from ner_recipe.annotation.run import Job, run_task


class AnnotateStep(PipelineStep):
    """Annotates the chunks of one task.

    Args:
        job: the model, the settings, the sources and the output folder, which `claim` has prepared.
        threads: for a worker on this machine, which ends with its parent; torch's own choice if None.
    """

    type = "Annotator"
    name = "jnlpba-ner"

    def __init__(self, job: Job, threads: int | None = None):
        super().__init__()
        self.job, self.threads = job, threads

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """Do task `rank` of `world_size`; nothing is read from the step before, or passed on."""
        if self.threads:
            torch.set_num_threads(self.threads)
            end_with_the_parent()
        run_task(self.on_a_device(rank), rank, world_size, self.count)
        yield from ()

    def count(self, source: int, counts: Mapping) -> None:
        """Add a chunk to datatrove's statistics."""
        for name in ("documents", "words"):
            self.stat_update(name, value=counts[name])

    def on_a_device(self, rank: int) -> Job:
        """The job, on one of the GPUs that this process sees."""
        settings = self.job.settings
        if settings.device != "cuda":
            return self.job
        device = f"cuda:{rank % torch.cuda.device_count()}"
        return dataclasses.replace(self.job, settings=dataclasses.replace(settings, device=device))


def end_with_the_parent() -> None:
    """End this process soon after its parent is killed. Its lock would keep the command from going on."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_workers(job: Job, tasks: int, workers: int, threads: int) -> None:
    """All tasks, in several processes on this machine."""
    os.register_at_fork(after_in_child=end_with_the_parent)  # the server that datatrove's workers count in
    logger.remove()  # the progress bar shows how far it is; the logs are in the folder
    executor = LocalPipelineExecutor(
        [AnnotateStep(job, threads)],
        tasks=tasks,
        workers=workers,
        logging_dir=str(job.output_dir / f"datatrove-{tasks}"),
        skip_completed=False,  # our own marks are finer: one for each chunk
        start_method="spawn",
    )
    executor.run()
