"""The work of annotate.py: a job that is prepared once, and the processes that do its tasks.

given, settings = parse(argv)
job = prepare(given, settings)
do_tasks(given, job, progress)
"""

import argparse

import torch

from ner_recipe.annotation.engine import (
    check_device,
    entity_labels,
    load_engine,
    local_folder,
    with_min_score,
)
from ner_recipe.annotation.manifest import MANIFEST, claim, manifest_of
from ner_recipe.annotation.output import refuse_labels
from ner_recipe.annotation.plan import input_files, refuse_idle_flags, sources_of
from ner_recipe.annotation.progress import Progress
from ner_recipe.annotation.run import Job, run_task
from ner_recipe.annotation.settings import Settings
from ner_recipe.launch import UsageError, usable_cores, use_cores


def prepare(given: argparse.Namespace, settings: Settings, *, load: bool = True) -> Job:
    """Find model and inputs, and claim the output folder for them.

    Args:
        load: whether to load the model before a new folder is claimed, to see that it can be. Not where the
            device is only on other machines.

    Raises:
        UsageError: the model, an input or the output folder can't be used.
    """
    if load:
        check_device(settings.device)
    use_cores(torch.device(settings.device))
    model = local_folder(given.model, given.model_revision, settings.backend)
    settings = with_min_score(settings, model)
    refuse_labels(settings.convert_to, entity_labels(model))
    files = input_files(given.inputs, given.output_dir, settings)
    refuse_idle_flags(given, files)
    if load and not (given.output_dir / MANIFEST).exists():
        load_engine(model, settings)
    claim(given.output_dir, manifest_of(given.model, model, settings, files))
    return Job(model, settings, tuple(sources_of(files)), given.output_dir)


def do_tasks(given: argparse.Namespace, job: Job, progress: Progress) -> None:
    """Do one task (--rank), or all of them in one process or in several (--workers).

    Raises:
        UsageError: several processes without datatrove.
    """
    if given.rank is not None:
        run_task(job, given.rank, given.tasks, progress.add)
    elif given.workers == 1:
        run_task(job, 0, 1, progress.add)
    else:
        try:
            from ner_recipe.annotation.step import run_workers
        except ImportError as error:
            raise UsageError(
                f"--workers: more than 1 needs datatrove ({error}); pip install -c constraints.txt -e "
                "'.[datatrove]', or start the command once for each --rank"
            ) from None
        with progress.watching():
            run_workers(job, given.tasks, given.workers, threads=max(1, usable_cores() // given.workers))
