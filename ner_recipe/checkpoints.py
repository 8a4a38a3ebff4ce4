"""Checkpoints: which are whole, what they must be resumed with, their deletion, and one run in a folder.

problems = checkpoint_problems(args)        # also chooses the checkpoint to resume from
"""

import contextlib
import errno
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import filelock
from safetensors import SafetensorError, safe_open

from ner_recipe.arguments import LAST_CHECKPOINT, DataArguments, ModelArguments, RecipeArguments
from ner_recipe.averaging import TRAINED_WEIGHTS
from ner_recipe.launch import UsageError

STATE_FILE = "trainer_state.json"
LOCK = ".run.lock"  # in the folder of a run, while it runs
SETTINGS_FILE = "run_settings.json"  # in a checkpoint: what it must be resumed with
CHECKPOINT_FILES = (
    *("model.safetensors", "optimizer.pt", "scheduler.pt", STATE_FILE),
    SETTINGS_FILE,
)
SHOWN = 8  # differing settings in one message
WRITING_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES)
WRITING_MARKS = ("PytorchStreamWriter", "inline_container", "I/O error", "Parent directory")
# The settings that change the trained model. A run can't be resumed with others.
DECIDING = {
    "model": (
        *("model_name_or_path", "model_revision", "do_lower_case", "attn_implementation"),
        *("teacher_name_or_path", "add_tokens_min_count"),
        *("hidden_dropout_prob", "attention_probs_dropout_prob"),
    ),
    "data": (
        *("dataset_name", "dataset_config_name", "train_split_name", "eval_split_name", "train_on"),
        *("validation_fraction", "repair_tags", "min_score"),
        *("max_seq_length", "stride", "label_all_tokens", "max_train_samples", "max_eval_samples"),
    ),
    "trainer": (
        *("learning_rate", "num_train_epochs", "max_steps", "train_batch_tokens", "warmup_steps"),
        *("per_device_train_batch_size", "gradient_accumulation_steps", "lr_scheduler_type"),
        *("lr_scheduler_kwargs", "optim", "optim_args", "weight_decay", "adam_beta1", "adam_beta2"),
        *("adam_epsilon", "max_grad_norm", "label_smoothing_factor", "train_sampling_strategy", "ema_decay"),
        *("distillation_weight", "neftune_noise_alpha", "ignore_data_skip"),
        *("seed", "data_seed", "mixed_precision", "eval_strategy", "eval_steps", "metric_for_best_model"),
        *("greater_is_better", "load_best_model_at_end", "eval_delay", "world_size", "use_cpu", "tf32"),
        *("auto_find_batch_size", "use_liger_kernel"),
        *("torch_compile", "torch_compile_backend", "torch_compile_mode"),
    ),
}


class WritingError(UsageError):
    """A checkpoint or a model that can't be written: no space left, a quota, a disk that was taken away."""

    exit_code = 1


@contextlib.contextmanager
def whole_or_none(output_dir: str, name: str, needed: int, process: int = 0) -> Iterator[None]:
    """Remove what the block began to write to `output_dir/name` if it fails.

    A process other than the first removes only its own file, because the first one may be writing to the same
    folder. A checkpoint without that file is not resumed from.

    Args:
        output_dir: the folder of the run.
        name: a checkpoint's folder, or the file of the model.
        needed: bytes that it takes, for the message.
        process: the number of this process.

    Raises:
        WritingError: with the place, the space needed and free, and the way on.
    """
    place = Path(output_dir, name)
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if not is_writing_error(error):
            raise
        if process:
            (place / f"rng_state_{process}.pth").unlink(missing_ok=True)
        elif place.is_dir():
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.unlink(missing_ok=True)
        last = last_checkpoint(output_dir)
        free = shutil.disk_usage(output_dir).free
        then = (
            f"then the same command with --resume_from_checkpoint goes on from {last}"
            if last
            else "then start the same command again"
        )
        reason = (isinstance(error, OSError) and error.strerror) or "no space left, or the disk failed"
        end = "is not resumed from" if process else "was removed"
        raise WritingError(
            f"--output_dir: {place} can't be written ({reason}); it takes about {needed:,} bytes, and "
            f"{free:,} are free; make room there, {then}. The unfinished {name} {end}"
        ) from error


def is_writing_error(error: Exception) -> bool:
    """Whether an error came from writing a file. torch and safetensors wrap that of the system.

    A folder that is missing was removed by another process, which could not write to it.
    """
    if isinstance(error, OSError):
        return error.errno in WRITING_ERRNOS
    return any(mark in str(error) for mark in WRITING_MARKS)


@contextlib.contextmanager
def only_run(args: RecipeArguments) -> Iterator[None]:
    """No other run writes to the folder of this one within the block.

    Raises:
        UsageError: another run does.
    """
    if args.process_index > 0:
        yield
        return
    folder = Path(args.output_dir)
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / LOCK, blocking=False):
            try:
                yield
            finally:
                (folder / LOCK).unlink(missing_ok=True)
    except filelock.Timeout:
        raise UsageError(busy(folder)) from None
    finally:
        for place in new:  # of a run that failed before it wrote anything
            with contextlib.suppress(OSError):
                place.rmdir()


def busy(folder: Path) -> str:
    return f"--output_dir: another run is writing to {folder}; wait until it ends, or choose another folder"


def is_locked(folder: Path) -> bool:
    """Whether another run is writing to a folder now."""
    if not (folder / LOCK).exists():
        return False
    try:
        with filelock.FileLock(folder / LOCK, blocking=False):
            return False
    except filelock.Timeout:
        return True


def checkpoint_problems(args: RecipeArguments) -> list[str]:
    """Refuse to mix two trainings in one folder; resolve where to resume from, past damaged checkpoints.

    `args.resuming_note` says which checkpoints were passed over.
    """
    if args.process_index == 0 and is_locked(Path(args.output_dir)):
        return [busy(Path(args.output_dir))]
    last, wanted = last_checkpoint(args.output_dir), args.resume_from_checkpoint
    if wanted is None and last is not None:
        return [
            f"--output_dir: {last} is left over from an unfinished run; continue it with "
            "--resume_from_checkpoint, choose another --output_dir, or delete the checkpoint"
        ]
    if wanted is None:
        return []
    if str(wanted).lower() in (LAST_CHECKPOINT, "true"):
        whole, damages = whole_checkpoint(args.output_dir)
        if whole is None:
            return [nothing_to_resume(args.output_dir, damages)]
        args.resume_from_checkpoint, args.resuming_note = str(whole), "; ".join(damages)
    elif found := damage(Path(wanted)):
        return [f"--resume_from_checkpoint: {found}; name another checkpoint"]
    return resuming_problems(Path(args.resume_from_checkpoint), args)


def nothing_to_resume(output_dir: str, damages: list[str]) -> str:
    """Why no checkpoint in a folder can be resumed from, and what to do. Cleans up after a finished run."""
    if damages:
        reason = f"no checkpoint in {output_dir} is whole: {'; '.join(damages)}"
    elif Path(output_dir, "run.json").is_file():
        for folder in checkpoints(output_dir):
            if not (folder / STATE_FILE).exists():  # a kill cut its deletion short
                shutil.rmtree(folder, ignore_errors=True)
        reason = f"the run in {output_dir} is finished"
    else:
        reason = f"found no checkpoint in {output_dir}"
    return f"--resume_from_checkpoint: {reason}; leave the flag out to train from the beginning"


def deciding_settings(
    model_args: ModelArguments, data_args: DataArguments, args: RecipeArguments
) -> dict[str, object]:
    """The values of DECIDING, by name."""
    groups = {"model": model_args, "data": data_args, "trainer": args}
    values = {name: getattr(groups[group], name) for group, names in DECIDING.items() for name in names}
    values["label_all_tokens"] = values["label_all_tokens"] is not False  # a training's default
    return {name: getattr(value, "value", value) for name, value in values.items()}  # enumerations as text


def began_with(checkpoint: Path, part: str) -> dict | None:
    """The `settings` or the `corpus` that a checkpoint began with; None if they can't be read."""
    try:
        found = json.loads((checkpoint / SETTINGS_FILE).read_text(encoding="utf-8"))[part]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def resuming_problems(checkpoint: Path, args: RecipeArguments) -> list[str]:
    """The settings of a checkpoint that this run would change, as one problem."""
    began = began_with(checkpoint, "settings")
    if began is None or began_with(checkpoint, "corpus") is None:
        return [
            f"--resume_from_checkpoint: {checkpoint / SETTINGS_FILE} can't be read; expected the JSON that "
            "the recipe wrote; name another checkpoint, or start anew in another --output_dir"
        ]
    if unknown := args.deciding.keys() ^ began.keys():
        version = "this" if (name := min(unknown)) in began else "that"
        return [
            f"--resume_from_checkpoint: {checkpoint} was written by another version of the recipe ({version} "
            f"one has no --{name}); resume with the other, or start anew in another --output_dir"
        ]
    changed = [
        f"--{name} {began[name]} (now {value})"
        for name, value in args.deciding.items()
        if began[name] != value
    ]
    if not changed:
        return []
    more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    return [
        f"--resume_from_checkpoint: {checkpoint} began with {', '.join(changed[:SHOWN])}{more}; resume with "
        "what it began with, or start anew in another --output_dir"
    ]


def checkpoints(output_dir: str) -> list[Path]:
    """The folders that Trainer keeps checkpoints in, oldest first."""
    folders = [
        path
        for path in Path(output_dir).glob("checkpoint-*")
        if path.is_dir() and step_in_name(path) is not None
    ]
    return sorted(folders, key=step_in_name)


def step_in_name(checkpoint: Path) -> int | None:
    """The step in the name of a checkpoint; None if the name is not one of Trainer's."""
    number = checkpoint.name.removeprefix("checkpoint-")
    return int(number) if number.isascii() and number.isdecimal() else None


def delete_checkpoints(output_dir: str) -> None:
    """Delete the checkpoints of a finished run, the newest first.

    A run that is killed here resumes from an older checkpoint, at the latest that of the best epoch, and gets
    the same model. A checkpoint is not whole from the moment its deletion begins.
    """
    for checkpoint in reversed(checkpoints(output_dir)):
        (checkpoint / STATE_FILE).unlink(missing_ok=True)
        shutil.rmtree(checkpoint)


def complete_checkpoints(output_dir: str) -> list[Path]:
    """The checkpoints with all their files, oldest first. A kill may have cut the last one short."""
    return [path for path in checkpoints(output_dir) if not missing_file(path)]


def last_checkpoint(output_dir: str) -> Path | None:
    """The newest checkpoint with all its files."""
    complete = complete_checkpoints(output_dir)
    return complete[-1] if complete else None


def whole_checkpoint(output_dir: str) -> tuple[Path | None, list[str]]:
    """The newest checkpoint whose files can be read, and the damage of each newer one with all its files."""
    damages = []
    for checkpoint in reversed(complete_checkpoints(output_dir)):
        found = damage(checkpoint)
        if found is None:
            return checkpoint, damages
        damages.append(found)
    return None, damages


def missing_file(checkpoint: Path) -> str | None:
    """The name of a file that a checkpoint lacks. Each process has a random state of its own."""
    began = began_with(checkpoint, "settings") or {}  # `resuming_problems` says what is wrong with that file
    processes = began.get("world_size")
    if not isinstance(processes, int) or processes < 1:
        processes = 1
    states = ["rng_state.pth"] if processes == 1 else [f"rng_state_{rank}.pth" for rank in range(processes)]
    averaged = [TRAINED_WEIGHTS] if began.get("ema_decay") else []
    wanted = (*CHECKPOINT_FILES, *states, *averaged)
    return next((name for name in wanted if not os.path.isfile(checkpoint / name)), None)


def damage(checkpoint: Path) -> str | None:
    """The first file of a checkpoint that is missing or can't be read; None if it is whole.

    Nothing is unpickled: torch's files are archives with checksums.
    """
    if missing := missing_file(checkpoint):
        return f"found no {missing} in {checkpoint}"
    for path in sorted(checkpoint.glob("*.safetensors")):
        try:
            with safe_open(path, "pt"):
                pass  # checks the header and the length of the file
        except (SafetensorError, OSError) as error:
            return f"{path} is damaged ({error})"
    for path in (*sorted(checkpoint.glob("*.pt")), *sorted(checkpoint.glob("*.pth"))):
        try:
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip()
        except (zipfile.BadZipFile, OSError, RuntimeError, EOFError) as error:
            broken = str(error)
        if broken:
            return f"{path} is damaged ({broken})"
    try:
        step = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))["global_step"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"{checkpoint / STATE_FILE} is damaged (not the JSON of a training, with its global_step)"
    if not isinstance(step, int) or step < 1 or step_in_name(checkpoint) not in (None, step):
        return f"{checkpoint / STATE_FILE} is damaged (global_step is {step})"
    return None
