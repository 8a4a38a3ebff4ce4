"""Everything that can be found wrong before anything is loaded. All problems are listed at once.

model_args, data_args, args = parse_arguments(argv)
"""

import dataclasses
import errno
import json
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import datasets
import torch
from torch.utils.checkpoint import checkpoint
from transformers import Trainer, get_scheduler
from transformers.integrations import get_available_reporting_integrations
from transformers.trainer_utils import HubStrategy
from transformers.utils import is_liger_kernel_available

from ner_recipe.arguments import (
    DISTILLATION_WEIGHT,
    MOST,
    OF_A_RUN,
    Arguments,
    DataArguments,
    ModelArguments,
    RecipeArguments,
    is_probability,
    parse_flags,
)
from ner_recipe.checkpoints import checkpoint_problems, deciding_settings, step_in_name
from ner_recipe.launch import UsageError

SELECTABLE = ("f1", "joint_f1", "precision", "recall", "macro_f1", "word_f1", "accuracy", "loss")
SAMPLING = ("group_by_length", "random", "sequential", "batch_rebalance")
PUBLISHED_ONCE = ("every_save", "end")  # the default and its meaning here: one commit, at the end

# Flag -> lowest value, and the value that it must stay below.
RANGES = {
    **dict.fromkeys(("max_train_samples", "max_eval_samples", "max_predict_samples"), (1, MOST)),
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size"), (1, MOST)),
    **dict.fromkeys(("gradient_accumulation_steps", "preprocessing_num_workers"), (1, MOST)),
    "add_tokens_min_count": (1, MOST),
    **dict.fromkeys(("eval_accumulation_steps", "save_total_limit", "ddp_bucket_cap_mb"), (1, MOST)),
    "dataloader_prefetch_factor": (1, MOST),
    **dict.fromkeys(("train_batch_tokens", "stride", "dataloader_num_workers", "show_mistakes"), (0, MOST)),
    **dict.fromkeys(("eval_delay", "neftune_noise_alpha", "adam_epsilon", "max_grad_norm"), (0, math.inf)),
    **dict.fromkeys(("adam_beta1", "adam_beta2"), (0, 1)),
    "max_seq_length": (3, MOST),  # a subtoken between two special ones
    "data_seed": (0, 2**32),
    **dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), (0, 1)),
    **dict.fromkeys(("learning_rate", "weight_decay", "warmup_steps"), (0, math.inf)),
    **dict.fromkeys(("label_smoothing_factor", "ema_decay"), (0, 1)),
    "seed": (0, 2**32),
}

POSITIVE = ("num_train_epochs", "logging_steps", "eval_steps", "save_steps")
OF_TRAINER = ("every_n_layers", "offload")  # in --gradient_checkpointing_kwargs; the others are torch's
# Settings of TrainingArguments that the way from windows back to words relies on.
FIXED = {
    "remove_unused_columns": True,
    "dataloader_drop_last": False,
    "eval_do_concat_batches": True,
    "batch_eval_metrics": False,
    "average_tokens_across_devices": True,
    "prediction_loss_only": False,
    "include_for_metrics": [],
    "save_only_model": False,
    "label_names": None,
    "length_column_name": "length",
}


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """The arguments of run_ner.py, checked.

    Raises:
        UsageError: a bad file, an unknown key or flag, or settings that can't work.
    """
    arguments = parse_flags(argv, OF_A_RUN, "run_ner.py")
    check_arguments(*arguments)
    return arguments


def check_arguments(model_args: ModelArguments, data_args: DataArguments, args: RecipeArguments) -> None:
    """List every setting that can't work."""
    problems = setting_problems(model_args, data_args, args)
    if not (args.do_train or args.do_eval or args.do_predict):
        problems.append("nothing to do; give --do_train, --do_eval or --do_predict")
    if args.push_to_hub and not args.do_train:
        problems.append(
            "--push_to_hub: needs --do_train; to push the folder of a finished run use "
            "'python -m ner_recipe.publishing model FOLDER --hub_model_id USER/NAME'"
        )
    if data_args.do_serve_check and not (args.do_eval or args.do_predict):
        problems.append("--do_serve_check: needs a split to serve; add --do_eval, --do_predict or both")
    problems += folder_problems(args.output_dir, model_args, args.do_train)
    if args.do_train:
        args.deciding = deciding_settings(model_args, data_args, args)
        problems += checkpoint_problems(args)
    refuse(problems)


def refuse(problems: Sequence[str]) -> None:
    """Raise UsageError with all problems at once, if there are any."""
    if problems:
        raise UsageError("\n  ".join(problems))


def setting_problems(
    model_args: ModelArguments, data_args: DataArguments, args: RecipeArguments
) -> list[str]:
    """Settings that can't work, wherever the results go."""
    problems = []
    if not model_args.model_name_or_path:
        problems.append("--model_name_or_path: not given; expected a Hub id, a folder or package:NAME/PATH")
    problems += teacher_problems(model_args.teacher_name_or_path or [], args)
    problems += corpus_problems(data_args) + cache_problems(model_args.cache_dir)
    problems += silver_problems(data_args.silver_train_file or [], args.do_train)
    own_text = data_args.validation_file or data_args.test_file
    if args.do_train and own_text and not data_args.train_file and "train" in data_args.train_split_name:
        problems.append("--train_file: not given; expected your text to train on beside the other files")
    if args.n_gpu > 1:
        # transformers would use DataParallel and multiply our loss by the number of GPUs.
        problems.append(
            f"found {args.n_gpu} GPUs and one process; start one process per GPU with 'accelerate launch "
            f"--num_processes {args.n_gpu} ...', or use a single GPU by setting CUDA_VISIBLE_DEVICES=0"
        )
    in_turn = args.do_train and data_args.train_on == "alternate"
    if in_turn and args.train_sampling_strategy in SAMPLING[1:]:
        problems.append(
            f"--train_sampling_strategy: found '{args.train_sampling_strategy}', which shows every row in "
            "each epoch; --train_on alternate needs group_by_length"
        )
    if (found := data_args.min_score) is not None and not is_probability(found):
        problems.append(f"--min_score: found {found}; expected a probability from 0 to 1")
    problems += number_problems((model_args, data_args, args), RANGES) + choice_problems(args)
    return problems or optimizer_problems(args)


def number_problems(groups: Sequence, ranges: dict[str, tuple[float, float]]) -> list[str]:
    """Numbers, alone or in a list, that are not finite or outside their range."""
    problems = []
    for group in groups:
        for field in dataclasses.fields(group):
            found = getattr(group, field.name)
            low, high = ranges.get(field.name, (-math.inf, math.inf))
            for value in found if isinstance(found, list) else [found]:
                if isinstance(value, float) and not math.isfinite(value):
                    problems.append(f"--{field.name}: found {value}; expected a finite number")
                elif field.name in ranges and value is not None and not low <= value < high:
                    below = "" if high == math.inf else f" and less than {high}"
                    problems.append(f"--{field.name}: found {value}; expected at least {low}{below}")
    return problems


def corpus_problems(data_args: DataArguments) -> list[str]:
    """Flags that name two corpora at once, or files that are not there."""
    given = {f"{split}_file": path for split, path in data_args.own_files.items()}
    problems = []
    for flag in ("dataset_name", "dataset_config_name", "dataset_revision", "data_dir"):
        value = getattr(data_args, flag)
        if given and value is not None:
            problems.append(
                f"--{flag}: '{value}' names a corpus beside --{next(iter(given))}; remove one of the two"
            )
    for flag, path in given.items():
        problems += text_problems(flag, path)
    fraction = data_args.validation_fraction
    if fraction is not None and not 0 < fraction < 1:
        problems.append(f"--validation_fraction: found {fraction:g}; expected more than 0 and less than 1")
    if fraction is not None and data_args.validation_file:
        problems.append(
            "--validation_fraction: has no effect beside --validation_file; remove one of the two"
        )
    return problems


def text_problems(flag: str, path: str) -> list[str]:
    """A text that is not there, or that reading would wait for, such as a FIFO."""
    try:
        there, readable = Path(path).exists(), Path(path).is_file() or Path(path).is_dir()
    except OSError:  # the name is too long
        there = readable = False
    if path and readable:
        refused = f"--{flag}: '{path}' can't be read by this user; change its permissions"
        return [] if os.access(path, os.R_OK) else [refused]
    strange = f"'{path}' is neither a file nor a folder"
    found = strange if there and path else f"found no file or folder '{path}'"
    return [f"--{flag}: {found}; give the path of your text"]


def silver_problems(files: Sequence[str], do_train: bool) -> list[str]:
    """Text that a model tagged which is not there, or would not be trained on."""
    problems = [problem for file in files for problem in text_problems("silver_train_file", file)]
    if files and not do_train:
        problems.append("--silver_train_file: needs --do_train; add it, or leave the files out")
    return problems


def choice_problems(args: RecipeArguments) -> list[str]:
    """Choices that TrainingArguments accepts and that would fail or mislead later."""
    problems = []
    metric = str(args.metric_for_best_model).removeprefix("eval_")
    for name, found, choices in (
        ("train_sampling_strategy", args.train_sampling_strategy, SAMPLING),
        ("metric_for_best_model", metric, SELECTABLE if args.do_train else [metric]),
        ("hub_strategy", HubStrategy(args.hub_strategy).value, PUBLISHED_ONCE),
    ):
        if found not in choices:
            problems.append(f"--{name}: found '{found}'; expected one of {', '.join(choices)}")
    if args.do_train and args.greater_is_better == metric.endswith("loss"):
        problems.append(
            f"--greater_is_better: found {str(args.greater_is_better).lower()}, which keeps the worst epoch "
            f"by --metric_for_best_model {metric}; leave it out"
        )
    for name in POSITIVE:
        found = getattr(args, name)
        if found is not None and found <= 0 and not (name == "num_train_epochs" and args.max_steps > 0):
            problems.append(f"--{name}: found {found:g}; expected more than 0")
    if args.max_steps < -1 or args.max_steps == 0:
        problems.append(f"--max_steps: found {args.max_steps}; expected at least 1, or -1 for whole epochs")
    problems += batch_problems(args) + logger_problems(args.report_to)
    problems += compile_problems(args) + recomputing_problems(args)
    if args.dataloader_persistent_workers and not args.dataloader_num_workers:
        problems.append(
            "--dataloader_persistent_workers: needs workers; add --dataloader_num_workers, or leave it out"
        )
    strange = [part for part in (args.optim_args or "").replace(" ", "").split(",") if part.count("=") != 1]
    if args.optim_args and strange:
        problems.append(
            f"--optim_args: found '{strange[0]}'; expected NAME=VALUE, with commas between several"
        )
    if args.use_liger_kernel and not is_liger_kernel_available():
        problems.append("--use_liger_kernel: the package liger-kernel is not installed; leave the flag out")
    for name in ("split_batches", "dispatch_batches"):
        if getattr(args.accelerator_config, name) and args.train_sampling_strategy == SAMPLING[0]:
            problems.append(
                f"--accelerator_config: {name} would divide batches that are planned as a whole; leave it out"
            )
    if "num_steps" in (args.accelerator_config.gradient_accumulation_kwargs or {}):
        problems.append(
            "--accelerator_config: found num_steps in gradient_accumulation_kwargs; give "
            "--gradient_accumulation_steps instead"
        )
    for name, needed in FIXED.items():
        found = getattr(args, name)
        if found != needed:
            problems.append(f"--{name}: found {found}; expected {needed}, which the recipe relies on")
    return problems


def teacher_problems(names: Sequence[str], args: RecipeArguments) -> list[str]:
    """Teachers that are named twice, or whose folder the run would write to; a weight that can't be."""
    problems, weight = [], args.distillation_weight
    if not 0 < weight <= 1:
        problems.append(f"--distillation_weight: found {weight:g}; expected more than 0 and at most 1")
    elif weight != DISTILLATION_WEIGHT and not names:
        problems.append(
            f"--distillation_weight: {weight:g} needs --teacher_name_or_path; add it, or leave it out"
        )
    if names and not args.do_train:
        problems.append("--teacher_name_or_path: needs --do_train; add it, or leave the teachers out")
    output = os.path.realpath(args.output_dir)
    for number, name in enumerate(names):
        if name in names[:number]:
            problems.append(f"--teacher_name_or_path: found '{name}' twice; name each teacher once")
        inside = Path(os.path.realpath(name)).is_relative_to(output)
        if args.do_train and os.path.isdir(name) and inside:
            problems.append(
                f"--output_dir: {args.output_dir} holds the teacher {name}; choose another folder"
            )
    return problems


def compile_problems(args: RecipeArguments) -> list[str]:
    """A backend or a mode that torch.compile does not have."""
    if not args.torch_compile:
        return []
    known = {
        "torch_compile_backend": torch.compiler.list_backends(),
        "torch_compile_mode": torch._inductor.list_mode_options(),
    }
    return [
        f"--{name}: found '{found}'; expected one of {', '.join(choices)}"
        for name, choices in known.items()
        if (found := getattr(args, name)) is not None and found not in choices
    ]


def recomputing_problems(args: RecipeArguments) -> list[str]:
    """Whether torch takes --gradient_checkpointing_kwargs, tried with a layer that does nothing."""
    given = args.gradient_checkpointing_kwargs or {}
    settings = {name: value for name, value in given.items() if name not in OF_TRAINER}
    if not args.gradient_checkpointing or not settings:
        return []
    try:
        checkpoint(
            torch.nn.Identity(), torch.zeros(1, requires_grad=True), **{"use_reentrant": True, **settings}
        )
    except (ValueError, TypeError, RuntimeError, AttributeError) as error:
        return [
            f"--gradient_checkpointing_kwargs: torch does not take {json.dumps(settings)} "
            f"({one_line(error)}); give arguments of torch.utils.checkpoint.checkpoint, such as use_reentrant"
        ]
    return []


def optimizer_problems(args: RecipeArguments) -> list[str]:
    """Whether the optimizer and the schedule of the learning rate can be made with these settings."""
    weight = torch.nn.Parameter(torch.zeros(1))
    try:
        kind, settings = Trainer.get_optimizer_cls_and_kwargs(args)
        optimizer = kind([weight], **settings)
    except (ValueError, TypeError, ImportError, RuntimeError, AttributeError) as error:
        named = "optim_args" if args.optim_args else "optim"
        return [
            f"--{named}: {args.optim.value} can't be made with these settings ({one_line(error)}); use "
            "another --optim, or correct --optim_args, --learning_rate and --adam_..."
        ]
    try:
        get_scheduler(args.lr_scheduler_type, optimizer, 0, 10, args.lr_scheduler_kwargs)
    except (ValueError, TypeError, AttributeError) as error:
        return [
            f"--lr_scheduler_kwargs: {args.lr_scheduler_type.value} does not work with "
            f"{json.dumps(args.lr_scheduler_kwargs)} ({one_line(error)}); give what this schedule takes"
        ]
    return []


def one_line(error: Exception) -> str:
    """What an error of a library says, without line breaks."""
    return " ".join(str(error).split())[:200]


def logger_problems(names: Sequence[str]) -> list[str]:
    """Loggers that are unknown or not installed."""
    there = get_available_reporting_integrations()
    absent = [name for name in names if name not in (*there, "none", "all")]
    if not absent:
        return []
    choices = ", ".join(["none", *there])
    return [f"--report_to: '{absent[0]}' is unknown or not installed; expected one of {choices}"]


def batch_problems(args: RecipeArguments) -> list[str]:
    """Settings that --train_batch_tokens makes void."""
    if not args.train_batch_tokens:
        return []
    remedy = "give --train_batch_tokens 0 for batches of rows"
    problems = []
    if args.batch_rows_given:
        problems.append(
            f"--per_device_train_batch_size: {args.per_device_train_batch_size} rows have no effect beside "
            f"--train_batch_tokens {args.train_batch_tokens}; remove one of them, or {remedy}"
        )
    if args.train_sampling_strategy in SAMPLING[1:]:
        problems.append(
            f"--train_sampling_strategy: found '{args.train_sampling_strategy}'; --train_batch_tokens needs "
            f"group_by_length; {remedy}"
        )
    if args.auto_find_batch_size:
        problems.append(f"--auto_find_batch_size: can't change --train_batch_tokens; {remedy}")
    return problems


def folder_problems(output_dir: str, model_args: ModelArguments, do_train: bool) -> list[str]:
    """Refuse a folder that is a file, and one with files that a run must not overwrite."""
    if problems := writing_problems("output_dir", output_dir):
        return problems
    folder, model = Path(output_dir), model_args.model_name_or_path
    if do_train and model and os.path.isdir(model) and folder.resolve() == Path(model).resolve():
        return [f"--output_dir: {model} is the folder of the model to start from; choose another"]
    if do_train and (folder / "README.md").exists() and not (folder / "run.json").is_file():
        return [f"--output_dir: {folder} holds a README.md that no run wrote; choose another folder"]
    if (folder / "figures").is_file() or (folder / "report.html").is_dir():
        return [f"--output_dir: {folder} holds a file figures or a folder report.html; choose another folder"]
    strange = [path for path in folder.glob("checkpoint-*") if step_in_name(path) is None]
    if do_train and strange:
        return [f"--output_dir: Trainer would delete {strange[0]}; choose another folder"]
    if not do_train and any(folder.glob("*.safetensors")):
        return [f"--output_dir: {folder} holds a model with its own reports; choose another folder"]
    return []


def cache_problems(cache_dir: str | None) -> list[str]:
    """Whether prepared corpora can be written to --cache_dir or, without the flag, to HF_HOME."""
    if cache_dir is not None:
        return writing_problems("cache_dir", cache_dir)
    default = str(datasets.config.HF_DATASETS_CACHE.expanduser())
    return [f"{problem}, or another HF_HOME" for problem in writing_problems("cache_dir", default)]


def beside(output_dir: str, what: str) -> str:
    """A folder beside --output_dir for results that do not belong to the model: its name and `_what`."""
    folder = Path(output_dir)
    return f"{folder if folder.name not in ('', '..') else folder.resolve()}_{what}"


def place_problems(flag: str, folder: str, output_dir: str) -> list[str]:
    """Whether results can be written to a folder that is not the model's own."""
    if Path(folder).resolve() == Path(output_dir).resolve():
        return [f"--{flag}: {folder} is the model's own --output_dir; choose another folder"]
    return writing_problems(flag, folder)


def writing_problems(flag: str, folder: str) -> list[str]:
    """Whether a folder is there, or can be created, and can be written to."""
    if "\0" in folder or not folder:
        return [f"--{flag}: found {folder!r}; expected the name of a folder"]
    place = Path(folder)
    try:
        for place in (Path(folder), *Path(folder).absolute().parents):
            if place.exists() or place.is_symlink():
                break
        if not place.exists():
            return [f"--{flag}: {place} is a link to a place that does not exist; choose a folder"]
        if not place.is_dir():
            return [f"--{flag}: {place} is a file; choose a folder"]
        longest = max(Path(folder).absolute().parts, key=lambda part: len(os.fsencode(part)))
        if len(os.fsencode(longest)) > os.pathconf(place, "PC_NAME_MAX"):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        tempfile.TemporaryFile(dir=place).close()  # without a name on Linux: a kill leaves nothing
    except OSError as error:
        return [f"--{flag}: nothing can be written in {place} ({error.strerror}); choose another folder"]
    return []
