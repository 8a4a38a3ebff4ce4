"""What a run is told: flags of the recipe, TrainingArguments with its defaults, YAML files; and their checks.

    python run_ner.py --help

One parser for both: a file's keys become flags ahead of the user's. Imports nothing of ours.
"""

import argparse
import dataclasses
import difflib
import json
import math
import os
import re
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from transformers import HfArgumentParser, TrainingArguments
from transformers.trainer_utils import HubStrategy

LAST_CHECKPOINT = "last"
SELECTION_METRIC = "f1"
SELECTABLE = ("f1", "precision", "recall", "macro_f1", "word_f1", "accuracy", "loss")

LONGEST_WINDOW = 512
SAMPLING = ("group_by_length", "random", "sequential", "batch_rebalance")
PUBLISHED_ONCE = ("every_save", "end")  # the default and what it does here: one commit, when the run ends
CHECKPOINT_FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json")

# Flag -> lowest value, and the value that it must stay below.
RANGES = {
    **dict.fromkeys(("max_train_samples", "max_eval_samples", "max_predict_samples"), (1, math.inf)),
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size"), (1, math.inf)),
    **dict.fromkeys(("gradient_accumulation_steps", "preprocessing_num_workers"), (1, math.inf)),
    **dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), (0, 1)),
    **dict.fromkeys(("learning_rate", "weight_decay", "warmup_steps", "show_mistakes"), (0, math.inf)),
    "label_smoothing_factor": (0, 1),
    "seed": (0, 2**32),
}

# Settings of TrainingArguments on which the way from windows back to words relies.
FIXED = {
    "remove_unused_columns": True,
    "dataloader_drop_last": False,
    "eval_do_concat_batches": True,
    "batch_eval_metrics": False,
    "prediction_loss_only": False,
    "include_for_metrics": [],
}


class UsageError(ValueError):
    """Something the user can mend: a flag, a config file, a model. Shown as one message."""


@dataclasses.dataclass
class ModelArguments:
    """Which encoder, and what of it to change."""

    model_name_or_path: str | None = dataclasses.field(
        default=None,
        metadata={
            "help": "A Hub id, a folder, or package:NAME/PATH (a folder inside an installed Python package)."
        },
    )
    model_revision: str = dataclasses.field(
        default="main",
        metadata={"help": "Branch, tag or commit of a Hub model; pin a commit to be reproducible."},
    )
    cache_dir: str | None = dataclasses.field(
        default=None, metadata={"help": "Where downloaded models and built corpora are kept."}
    )
    do_lower_case: bool | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Override whether the tokenizer lower-cases; SciBERT cased, which ships no tokenizer "
            "configuration, needs false.",
        },
    )
    hidden_dropout_prob: float | None = dataclasses.field(
        default=None, metadata={"help": "Dropout of the hidden layers (the model's own if not given)."}
    )
    attention_probs_dropout_prob: float | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Dropout of the attention weights (the model's own if not given); with 0 long windows "
            "train twice as fast on a CPU."
        },
    )
    model_license: str = dataclasses.field(
        default="apache-2.0", metadata={"help": "Licence that the model's card names, as the Hub spells it."}
    )


@dataclasses.dataclass
class DataArguments:
    """Which corpus, and how sentences become windows."""

    dataset_name: str = dataclasses.field(default="jnlpba", metadata={"help": "The corpus: jnlpba."})
    dataset_config_name: str = dataclasses.field(
        default="jnlpba", metadata={"help": "jnlpba, or sample: our own sentences, embedded."}
    )
    data_dir: str | None = dataclasses.field(
        default=None,
        metadata={
            "help": "A folder with train.tsv, devel.tsv, test.tsv; downloads the pinned corpus if not given."
        },
    )
    train_split_name: str = dataclasses.field(
        default="train", metadata={"help": "The split to train on; train+validation joins two."}
    )
    eval_split_name: str = dataclasses.field(
        default="validation", metadata={"help": "The split that selects the best epoch."}
    )
    train_on_abstracts: bool = dataclasses.field(
        default=True,
        metadata={
            "help": "Train on each abstract twice an epoch, sentence by sentence and as a whole, so that the "
            "model can be given either; or on sentences only."
        },
    )
    max_seq_length: int | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Subtokens a window, special tokens included (the model's limit, but not over 512). "
            "Longer text becomes several windows. The saved tokenizer has it as its model_max_length."
        },
    )
    stride: int | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Subtokens that two windows of a long sentence share at most (a quarter of a window)."
        },
    )
    label_all_tokens: bool = dataclasses.field(
        default=True,
        metadata={"help": "Train on every subtoken of a word (B- then I-), or on the first only."},
    )
    max_train_samples: int | None = dataclasses.field(
        default=None, metadata={"help": "Use only the first N sentences for training."}
    )
    max_eval_samples: int | None = dataclasses.field(
        default=None, metadata={"help": "Use only the first N sentences for validation."}
    )
    max_predict_samples: int | None = dataclasses.field(
        default=None, metadata={"help": "Use only the first N sentences of the test split."}
    )
    do_serve_check: bool = dataclasses.field(
        default=False,
        metadata={
            "help": "Score what pipeline('ner') answers on plain sentences and abstracts of each split that "
            "is evaluated."
        },
    )
    do_report_page: bool = dataclasses.field(
        default=True,
        metadata={"help": "Write report.html (while training, too) and figures/; takes seconds a time."},
    )
    preprocessing_num_workers: int | None = dataclasses.field(
        default=None, metadata={"help": "Processes that tokenize."}
    )
    show_mistakes: int = dataclasses.field(
        default=0,
        metadata={"help": "Print the first N sentences with an error whenever a report is written."},
    )


@dataclasses.dataclass
class RecipeArguments(TrainingArguments):
    """transformers' TrainingArguments with this recipe's defaults."""

    eval_strategy: str = dataclasses.field(
        default="epoch", metadata={"help": "When to evaluate: no, steps, epoch."}
    )
    save_strategy: str = dataclasses.field(
        default="epoch", metadata={"help": "When to save a checkpoint: no, steps, epoch, best."}
    )
    save_total_limit: int | None = dataclasses.field(
        default=1, metadata={"help": "How many checkpoints to keep beside the best one."}
    )
    load_best_model_at_end: bool = dataclasses.field(
        default=True, metadata={"help": "Restore the best epoch's weights after training."}
    )
    metric_for_best_model: str | None = dataclasses.field(
        default=SELECTION_METRIC, metadata={"help": "The validation score that selects (micro span F1)."}
    )
    logging_steps: float = dataclasses.field(
        default=50, metadata={"help": "Log the training loss each N steps."}
    )
    train_sampling_strategy: str = dataclasses.field(
        default="group_by_length",
        metadata={"help": "Batches of like length (group_by_length), or random, or sequential."},
    )
    resume_from_checkpoint: str | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Go on from a checkpoint folder, or (no value) from the last one in the output folder.",
            "nargs": "?",
            "const": LAST_CHECKPOINT,
        },
    )
    # None: not given, so the hardware decides. The type stays bool, that the parser may take a bare --bf16.
    bf16: bool = dataclasses.field(
        default=None, metadata={"help": "bfloat16 mixed precision (None: see hardware)."}
    )
    fp16: bool = dataclasses.field(
        default=None, metadata={"help": "float16 mixed precision (None: see hardware)."}
    )

    def __post_init__(self):
        if not self.do_train:
            # Nothing to select or to save; TrainingArguments would otherwise switch do_eval on.
            self.eval_strategy, self.save_strategy, self.load_best_model_at_end = "no", "no", False
        if not torch.accelerator.is_available():
            self.use_cpu = True
        chosen, self.precision_reason = choose_precision(self)
        super().__post_init__()
        # TrainingArguments lets the launcher's environment win over an explicit --bf16 false.
        self.mixed_precision = "no" if chosen == "fp32" else chosen


def choose_precision(args: TrainingArguments) -> tuple[str, str]:
    """Fill in args.bf16 and args.fp16 where they were not given; (what was chosen, that and why)."""
    given = [name for name in ("bf16", "fp16") if getattr(args, name) is not None]
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if args.fp16 and args.use_cpu:
        raise ValueError("--fp16: found on a CPU; expected --bf16 or neither (fp16 needs a GPU)")
    if given:
        chosen = next((name for name in given if getattr(args, name)), "fp32")
        reason = "as the flags say"
    elif launched != "no":
        chosen, reason = launched, f"as accelerate launch says ({launched})"
    elif args.use_cpu:
        args.bf16 = cpu_has_bf16()
        chosen, verb = ("bf16", "has") if args.bf16 else ("fp32", "has no")
        reason = f"the CPU {verb} bf16 instructions"
    elif torch.cuda.is_available():
        args.bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        args.fp16 = not args.bf16
        chosen, verb = ("bf16", "has") if args.bf16 else ("fp16", "lacks")
        reason = f"{torch.cuda.get_device_name()} {verb} bf16"
    else:
        chosen, reason = "fp32", "no rule for this device"
    args.bf16, args.fp16 = bool(args.bf16), bool(args.fp16)
    return chosen, f"{chosen} ({reason})"


def cpu_has_bf16() -> bool:
    """Whether matrix products in bf16 run on instructions of their own rather than by conversion."""
    capabilities = torch.cpu.get_capabilities()
    return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))


class RecipeParser(HfArgumentParser):
    """HfArgumentParser whose errors are one line instead of a page of usage."""

    def error(self, message: str):
        raise UsageError(message)


Arguments = tuple[ModelArguments, DataArguments, RecipeArguments]
OF_A_RUN = (ModelArguments, DataArguments, RecipeArguments)


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """What run_ner.py is told, checked.

    Raises:
        UsageError: a bad file, an unknown key or flag, a value that does not fit.
    """
    arguments = parse_flags(argv, OF_A_RUN, "run_ner.py")
    check_arguments(*arguments)
    return arguments


def parse_flags(argv: Sequence[str], groups: Sequence[type], program: str) -> tuple:
    """Parse `[CONFIG.yaml] [--flag value ...]`; the file's keys become flags ahead of the user's, who win.

    Returns one instance of each of the dataclasses `groups`.

    Raises:
        UsageError: a bad file, an unknown key or flag, a value of another type.
    """
    parser, words = parser_and_words(argv, groups, program)
    try:
        *arguments, unknown = parser.parse_args_into_dataclasses(
            words, return_remaining_strings=True, look_for_args_file=False
        )
    except (ValueError, TypeError, ImportError) as error:
        raise UsageError(str(error)) from None
    if unknown:
        flags = [name for action in parser._actions for name in action.option_strings]
        hint = suggestion(unknown[0].split("=")[0], flags)
        unknown = [re.sub(r"hf_\w+", "***", word) for word in unknown]  # --hub_tokn hf_... is a secret too
        raise UsageError(
            f"found {shlex.join(unknown)}; expected flags that --help lists, after one CONFIG.yaml{hint}"
        )
    return tuple(arguments)


def parser_and_words(
    argv: Sequence[str], groups: Sequence[type], program: str
) -> tuple[RecipeParser, list[str]]:
    """The parser of `groups`, and the command line with its configuration file turned into flags."""
    parser = RecipeParser(groups, allow_abbrev=False, prog=program)
    words = list(argv)
    if words and words[0].endswith((".yaml", ".yml")):
        known = {action.dest for action in parser._actions if action.dest != "help"}
        words[:1] = config_to_argv(words[0], known)
    return parser, words


def given_flags(argv: Sequence[str], groups: Sequence[type], program: str) -> dict[str, object]:
    """The settings that the file and the flags name, without any default; as `parse_flags` reads them."""
    parser, words = parser_and_words(argv, groups, program)
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    return vars(parser.parse_known_args(words)[0])


def config_to_argv(path: str, known: set[str]) -> list[str]:
    """Turn a YAML file of `flag: value` into command-line words, refusing unknown and repeated keys."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        node, values = yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; expected a YAML file of 'flag: value'") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path}: found {type(values).__name__}; expected lines of 'flag: value'")
    refuse_repeated_keys(path, node)
    argv = []
    for key_node, _ in node.value:
        key, place = str(key_node.value), f"{path}:{key_node.start_mark.line + 1}"
        if key not in known:
            raise UsageError(
                f"{place}: found the unknown key '{key}'; expected a flag's name{suggestion(key, known)}"
            )
        argv += flag_words(place, key, values[key])
    return argv


def refuse_repeated_keys(path: str, node: yaml.Node) -> None:
    """PyYAML takes the last of equal keys, in silence, at any depth."""
    seen: set[str] = set()
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if str(key.value) in seen:
            raise UsageError(
                f"{path}:{key.start_mark.line + 1}: found '{key.value}' a second time; expected each key once"
            )
        seen.add(str(key.value))
        refuse_repeated_keys(path, value)


def flag_words(place: str, key: str, value: object) -> list[str]:
    """`--key value` for one YAML value."""
    if value is None:
        raise UsageError(f"{place}: found no value for '{key}'; expected one, or leave the line out")
    if value is False and key.endswith("_strategy"):
        value = "no"  # which YAML reads as false
    if isinstance(value, dict):
        try:
            return [f"--{key}={json.dumps(value)}"]
        except TypeError as error:  # a date, say
            raise UsageError(
                f"{place}: '{key}': {error}; expected numbers, text, lists, true, false"
            ) from None
    if isinstance(value, list):
        return [f"--{key}", *map(str, value)]
    return [f"--{key}={str(value).lower() if isinstance(value, bool) else value}"]


def suggestion(word: str, known: Sequence[str] | set[str]) -> str:
    close = difflib.get_close_matches(word, sorted(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def check_arguments(model_args: ModelArguments, data_args: DataArguments, args: RecipeArguments) -> None:
    """List every setting that can't work, before anything is loaded."""
    problems = setting_problems(model_args, data_args, args)
    if not (args.do_train or args.do_eval or args.do_predict):
        problems.append("nothing to do; expected --do_train, --do_eval or --do_predict")
    if args.push_to_hub and not args.do_train:
        problems.append(
            "--push_to_hub: found without --do_train; expected both. The folder of a finished run goes up by "
            "'python publish.py FOLDER --hub_model_id USER/NAME'"
        )
    if data_args.do_serve_check and not (args.do_eval or args.do_predict):
        problems.append("--do_serve_check: expected --do_eval, --do_predict or both, whose splits it serves")
    problems += folder_problems(args.output_dir, model_args, args.do_train)
    if args.do_train:
        problems += checkpoint_problems(args)
    refuse(problems)


def refuse(problems: Sequence[str]) -> None:
    """Raise UsageError with all problems at once, if there are any."""
    if problems:
        raise UsageError("\n  ".join(problems))


def setting_problems(
    model_args: ModelArguments, data_args: DataArguments, args: RecipeArguments
) -> list[str]:
    """What can't work wherever the results are to go."""
    problems = []
    if not model_args.model_name_or_path:
        problems.append("--model_name_or_path: not given; expected a Hub id, a folder or package:NAME/PATH")
    if data_args.dataset_name != "jnlpba":
        problems.append(
            f"--dataset_name: found '{data_args.dataset_name}'; expected jnlpba. For a corpus with the same "
            "labels and format give its folder as --data_dir"
        )
    return problems + number_problems((model_args, data_args, args), RANGES) + choice_problems(args)


def number_problems(groups: Sequence, ranges: dict[str, tuple[float, float]]) -> list[str]:
    """Numbers that are not finite or outside their range, one by one or in a list."""
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


def choice_problems(args: RecipeArguments) -> list[str]:
    """Choices that TrainingArguments lets pass, and that would fail or mislead later."""
    problems = []
    metric = str(args.metric_for_best_model).removeprefix("eval_")
    for name, found, choices in (
        ("train_sampling_strategy", args.train_sampling_strategy, SAMPLING),
        ("metric_for_best_model", metric, SELECTABLE if args.do_train else [metric]),
        ("hub_strategy", HubStrategy(args.hub_strategy).value, PUBLISHED_ONCE),
    ):
        if found not in choices:
            problems.append(f"--{name}: found '{found}'; expected one of {', '.join(choices)}")
    if args.num_train_epochs <= 0 and args.max_steps <= 0:
        problems.append(f"--num_train_epochs: found {args.num_train_epochs:g}; expected more than 0")
    for name, needed in FIXED.items():
        found = getattr(args, name)
        if found != needed:
            problems.append(f"--{name}: found {found}; expected {needed}, or words could not be scored")
    return problems


def checkpoint_problems(args: RecipeArguments) -> list[str]:
    """Refuse to mix two trainings in one folder; resolve where to resume from."""
    last = last_checkpoint(args.output_dir)
    wanted = args.resume_from_checkpoint
    if wanted is None and last is not None:
        return [
            f"--output_dir: {last} is left of a training that did not end; expected "
            "--resume_from_checkpoint to go on with it, another --output_dir, or the checkpoint removed"
        ]
    if wanted is not None and str(wanted).lower() in (LAST_CHECKPOINT, "true"):
        if last is None:
            return [
                f"--resume_from_checkpoint: found no checkpoint in {args.output_dir}; leave the flag out to "
                "start anew"
            ]
        args.resume_from_checkpoint = str(last)
    elif wanted is not None and not is_whole(Path(wanted)):
        return [
            f"--resume_from_checkpoint: found no checkpoint in {wanted}; expected a folder with "
            f"{', '.join(CHECKPOINT_FILES)}"
        ]
    return []


def folder_problems(output_dir: str, model_args: ModelArguments, do_train: bool) -> list[str]:
    """Refuse folders that are files, and an output folder that holds what a run must not overwrite."""
    for flag, place in (("output_dir", output_dir), ("cache_dir", model_args.cache_dir)):
        if place and Path(place).exists() and not Path(place).is_dir():
            return [f"--{flag}: found the file {place}; expected a folder"]
    folder, model = Path(output_dir), model_args.model_name_or_path
    if do_train and model and Path(model).is_dir() and folder.resolve() == Path(model).resolve():
        return [f"--output_dir: found the folder of the model itself, {model}; expected another"]
    if do_train and (folder / "README.md").exists() and not (folder / "run.json").is_file():
        return [f"--output_dir: found a README.md that no run wrote in {folder}; expected another folder"]
    if (folder / "figures").is_file() or (folder / "report.html").is_dir():
        return [f"--output_dir: found a file figures or a folder report.html in {folder}; expected another"]
    strange = [path for path in folder.glob("checkpoint-*") if not path.name[11:].isdigit()]
    if do_train and strange:
        return [f"--output_dir: found {strange[0]}, which Trainer would delete; expected another folder"]
    if not do_train and (folder / "model.safetensors").exists():
        return [
            f"--output_dir: found a model in {folder}; expected another folder, its own reports stay with it"
        ]
    return []


def beside(output_dir: str, what: str) -> str:
    """The folder for results that do not belong into the model's: its name with `_what` after it."""
    folder = Path(output_dir)
    return f"{folder if folder.name not in ('', '..') else folder.resolve()}_{what}"


def place_problems(flag: str, folder: str, output_dir: str) -> list[str]:
    """Whether results could be written to a folder that is not the model's own; said before the work."""
    if Path(folder).resolve() == Path(output_dir).resolve():
        return [f"--{flag}: found {folder}, the model's own --output_dir; expected another folder"]
    place = next(path for path in (Path(folder), *Path(folder).absolute().parents) if path.exists())
    if not place.is_dir():
        return [f"--{flag}: found the file {place}; expected a folder"]
    try:
        tempfile.TemporaryDirectory(dir=place).cleanup()
    except OSError as error:
        return [f"--{flag}: found {place}, where nothing can be written ({error.strerror}); expected another"]
    return []


def checkpoints(output_dir: str) -> list[Path]:
    """The folders that Trainer keeps checkpoints in, oldest first."""
    folders = [
        path for path in Path(output_dir).glob("checkpoint-*") if path.is_dir() and path.name[11:].isdigit()
    ]
    return sorted(folders, key=lambda path: int(path.name[11:]))


def is_whole(checkpoint: Path) -> bool:
    return all((checkpoint / name).is_file() for name in CHECKPOINT_FILES)


def last_checkpoint(output_dir: str) -> Path | None:
    """The newest checkpoint that was written whole: a kill may have cut the last one short."""
    whole = [path for path in checkpoints(output_dir) if is_whole(path)]
    return whole[-1] if whole else None
