"""The flags: the recipe's own, and TrainingArguments with the recipe's defaults; a YAML file becomes flags.

    python run_ner.py --help

`checks.py` says which values can work.
"""

import argparse
import dataclasses
import difflib
import json
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
import yaml
from accelerate.utils import GradientAccumulationPlugin
from transformers import HfArgumentParser, TrainingArguments
from transformers.hf_argparser import HfArg
from transformers.trainer_pt_utils import AcceleratorConfig
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from ner_recipe.launch import UsageError, choose_precision, join_processes

LAST_CHECKPOINT = "last"
SELECTION_METRIC = "f1"
TRAIN_ON = ("sentences", "abstracts", "both", "alternate")
DISTILLATION_WEIGHT = 0.7
DEFAULT_BATCH_ROWS = 8  # as in TrainingArguments
# What TrainingArguments would refuse without the flag's name, or take and fail with later.
JSON_FLAGS = ("lr_scheduler_kwargs", "gradient_checkpointing_kwargs", "activation_checkpointing_kwargs")
STRATEGIES = {"eval_strategy": IntervalStrategy, "save_strategy": SaveStrategy}
UNSUPPORTED = ("deepspeed", "fsdp", "fsdp_config", "parallelism_config")  # they write other checkpoints
GPU_BACKENDS = ("nccl", "xccl", "hccl", "cncl", "mccl")
LONGEST_WAIT = 10**9  # seconds; torch counts nanoseconds in 64 bits
SECRET = re.compile(r"Bearer \S+|hf_\w+")  # a token, in the client's errors and on the command line
MOST = 2**31  # of what a flag counts; libraries fail with numbers of more bits than theirs
KINDS = {"int": "a whole number", "float": "a number", "dict": "a JSON object"}  # what a parser's type reads


@dataclasses.dataclass
class ModelArguments:
    """Which encoder, and what to change in it."""

    model_name_or_path: str | None = HfArg(
        default=None, help="A Hub id, a folder, or package:NAME/PATH (a folder inside an installed package)."
    )
    model_revision: str = HfArg(
        default="main", help="Branch, tag or commit of a Hub model. Pin a commit for reproducible scores."
    )
    teacher_name_or_path: list[str] | None = HfArg(
        default=None,
        help="Trained models, named as in --model_name_or_path, whose mean probabilities the model learns "
        "beside the corpus's tags.",
    )
    cache_dir: str | None = HfArg(default=None, help="Where downloaded models and prepared corpora are kept.")
    do_lower_case: bool | None = HfArg(
        default=None, help="Override the tokenizer's lower-casing. SciBERT cased on the Hub needs false."
    )
    hidden_dropout_prob: float | None = HfArg(
        default=None, help="Dropout of the hidden layers. The model's own value if not given."
    )
    attention_probs_dropout_prob: float | None = HfArg(
        default=None, help="Dropout of the attention weights; 0 makes long windows twice as fast on a CPU."
    )
    add_tokens_min_count: int | None = HfArg(
        default=None,
        help="In training, give each word that the tokenizer splits, and that the training text has at least "
        "N times, a subtoken of its own. For WordPiece (BERT). Without it none is added.",
    )
    attn_implementation: Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3"] | None = HfArg(
        default=None,
        help="The attention to use. Without the flag sdpa; on a CPU in bf16 a faster one in training.",
    )
    model_license: str = HfArg(default="apache-2.0", help="Licence for the model card, as the Hub spells it.")


SPLITS = ("train", "validation", "test")


@dataclasses.dataclass
class DataArguments:
    """Which corpus, and how sentences become windows."""

    dataset_name: str | None = HfArg(
        default=None,
        help="jnlpba (if nothing is given), another known corpus such as ncbi-disease, a folder written by "
        "save_to_disk, or a data set of the Hub.",
    )
    dataset_config_name: str | None = HfArg(
        default=None,
        help="Of jnlpba: jnlpba, or sample (280 embedded sentences, no network). Of a data set of the Hub: "
        "its configuration.",
    )
    dataset_revision: str | None = HfArg(default=None, help="Branch, tag or commit of a data set of the Hub.")
    data_dir: str | None = HfArg(
        default=None,
        help="A folder with train.tsv, devel.tsv and test.tsv of a known corpus, instead of a download.",
    )
    train_file: str | None = HfArg(
        default=None,
        help="Your own text to train on, instead of --dataset_name: tagged words (CoNLL, JSON, CSV, "
        "Parquet), or text with spans (JSON lines, BRAT, PubTator, BioC). See docs/corpora.md.",
    )
    validation_file: str | None = HfArg(default=None, help="Your own text that selects the best epoch.")
    test_file: str | None = HfArg(default=None, help="Your own text for the final score.")
    silver_train_file: list[str] | None = HfArg(
        default=None,
        help="Text that a model tagged, to be trained on beside the corpus: what annotate.py --with_text "
        "writes, or any form of --train_file. Files, or folders of annotate.py.",
    )
    validation_fraction: float | None = HfArg(
        default=None, help="Take this part of train's documents for validation, where there is none."
    )
    text_column_name: str | None = HfArg(
        default=None, help="The column of words (tokens or words), or of the text of documents (text)."
    )
    label_column_name: str | None = HfArg(default=None, help="The column of tags (ner_tags, tags or labels).")
    document_column_name: str | None = HfArg(
        default=None, help="The column that names each sentence's document (document_id, doc_id or pmid)."
    )
    repair_tags: bool = HfArg(
        default=False, help="Read tags that no scheme allows by the rules of conlleval, and count them."
    )
    dataset_license: str | None = HfArg(
        default=None, help="Licence of your own corpus for the model card, as the Hub spells it."
    )
    train_split_name: str = HfArg(
        default="train", help="The split to train on; train+validation joins two splits."
    )
    eval_split_name: str = HfArg(default="validation", help="The split that selects the best epoch.")
    train_on: Literal[TRAIN_ON] = HfArg(
        default="alternate",
        help="sentences; abstracts (each as one text); both; or alternate: each abstract once an epoch, "
        "as sentences and as one text in turn.",
    )
    max_seq_length: int | None = HfArg(
        default=None,
        help="Subtokens in a window, special tokens included. If not given: the model's limit, at most 512.",
    )
    stride: int | None = HfArg(
        default=None,
        help="Most subtokens that two windows of one text share. If not given: a quarter of a window.",
    )
    # None means not given. The type stays bool so that the parser takes the bare flag.
    label_all_tokens: bool = HfArg(
        default=None,
        help="Label every subtoken of a word (B- then I-); false labels only the first. If not given: true "
        "in a training, otherwise as config.json says that the model was trained.",
    )
    max_train_samples: int | None = HfArg(default=None, help="Train on the first N sentences only.")
    max_eval_samples: int | None = HfArg(default=None, help="Validate on the first N sentences only.")
    max_predict_samples: int | None = HfArg(default=None, help="Test on the first N sentences only.")
    min_score: float | None = HfArg(
        default=None,
        help="Joint decoding leaves out entities with a lower score. If not given: in a training the best "
        "value on validation, otherwise min_score in the model's config.json, or 0.",
    )
    do_serve_check: bool = HfArg(
        default=False, help="Score what pipeline('ner') returns for each evaluated split as plain text."
    )
    do_report_page: bool = HfArg(
        default=True, help="Write report.html and figures/; the page is refreshed at each evaluation."
    )
    preprocessing_num_workers: int | None = HfArg(default=None, help="Number of processes that tokenize.")
    show_mistakes: int = HfArg(
        default=0, help="At the end, print the first N sentences with an error of each evaluated split."
    )

    @property
    def own_files(self) -> dict[str, str]:
        """The user's own files, by split."""
        files = {split: getattr(self, f"{split}_file") for split in SPLITS}
        return {split: file for split, file in files.items() if file is not None}


@dataclasses.dataclass
class RecipeArguments(TrainingArguments):
    """transformers' TrainingArguments with this recipe's defaults."""

    eval_strategy: str = HfArg(default="epoch", help="When to evaluate: no, steps or epoch.")
    save_strategy: str = HfArg(default="epoch", help="When to save a checkpoint: no, steps, epoch or best.")
    save_total_limit: int | None = HfArg(
        default=1, help="Checkpoints to keep beside the best one. All are deleted when a run succeeds."
    )
    load_best_model_at_end: bool = HfArg(default=True, help="Restore the best epoch's weights at the end.")
    metric_for_best_model: str | None = HfArg(
        default=SELECTION_METRIC,
        help="The validation score that selects the best epoch (f1: micro, entities).",
    )
    train_batch_tokens: int | None = HfArg(
        default=None,
        help="Fill a device's batch up to N subtokens, padding included. Without it, or with 0, a batch has "
        "per_device_train_batch_size rows.",
    )
    per_device_train_batch_size: int = HfArg(
        default=None, help=f"Rows in a device's batch, {DEFAULT_BATCH_ROWS} if not given."
    )
    ema_decay: float = HfArg(
        default=0.0,
        help="Evaluate and save an exponential moving average of the weights with this decay; 0 for none.",
    )
    distillation_weight: float = HfArg(
        default=DISTILLATION_WEIGHT,
        help="The part of the loss that comes from --teacher_name_or_path; the rest comes from the tags.",
    )
    logging_steps: float = HfArg(default=50, help="Log the training loss every N steps.")
    train_sampling_strategy: str = HfArg(
        default="group_by_length", help="group_by_length (little padding), random or sequential."
    )
    resume_from_checkpoint: str | None = HfArg(
        default=None,
        help="Continue from this checkpoint; without a value, from the last one in --output_dir.",
        metadata={"nargs": "?", "const": LAST_CHECKPOINT},
    )
    push_to_hub: bool = HfArg(default=False, help="Publish the finished model, in one commit at the end.")
    hub_model_id: str | None = HfArg(
        default=None,
        help="USER/NAME, or NAME in your own account, for --push_to_hub. If not given: the folder's name.",
    )
    # None means not given. The type stays bool so that the parser takes the bare flag.
    hub_private_repo: bool = HfArg(
        default=None, help="Push to a private repository; an existing public one is refused."
    )
    bf16: bool = HfArg(default=None, help="bfloat16 mixed precision. Chosen by hardware if not given.")
    fp16: bool = HfArg(default=None, help="float16 mixed precision. Chosen by hardware if not given.")

    def __post_init__(self):
        if problems := early_problems(self):
            raise UsageError("\n  ".join(problems))
        if not self.do_train:
            # Nothing to select or save. TrainingArguments would otherwise switch do_eval on.
            self.eval_strategy, self.save_strategy, self.load_best_model_at_end = "no", "no", False
        if not torch.accelerator.is_available():
            self.use_cpu = True
        # checkpoints.py fills in what a resumed run must have in common, and which checkpoints are damaged.
        self.deciding: dict[str, object] = {}
        self.resuming_note = ""
        self.batch_rows_given = self.per_device_train_batch_size is not None
        self.per_device_train_batch_size = (
            self.per_device_train_batch_size if self.batch_rows_given else DEFAULT_BATCH_ROWS
        )
        chosen, self.precision_reason = choose_precision(self)
        self.cpu_attention = chosen == "bf16" and self.use_cpu
        if self.use_cpu and self.ddp_backend in (None, "gloo"):
            join_processes(self.ddp_timeout)
        super().__post_init__()
        # TrainingArguments lets the launcher's environment win over an explicit --bf16 false.
        self.mixed_precision = "no" if chosen == "fp32" else chosen


def early_problems(args: RecipeArguments) -> list[str]:
    """Values as they were given that TrainingArguments can't read."""
    problems = []
    for name in JSON_FLAGS:
        found = getattr(args, name)
        if isinstance(found, str) and not isinstance(json_value(found), dict):
            problems.append(f"--{name}: found '{found}'; expected a JSON object such as {{\"name\": 1}}")
    for name, strategy in STRATEGIES.items():
        choices, found = [one.value for one in strategy], getattr(args, name)
        if found not in choices:
            problems.append(f"--{name}: found '{found}'; expected one of {', '.join(choices)}")
    for name in UNSUPPORTED:
        if getattr(args, name):
            problems.append(f"--{name}: the recipe trains without it; leave it out")
    if args.warmup_steps < 0:
        problems.append(f"--warmup_steps: found {args.warmup_steps:g}; expected at least 0")
    if args.logging_steps == 0:
        problems.append("--logging_steps: found 0; expected more than 0, or --logging_strategy no")
    if args.torch_empty_cache_steps is not None and args.torch_empty_cache_steps < 1:
        problems.append(
            f"--torch_empty_cache_steps: found {args.torch_empty_cache_steps}; expected at least 1"
        )
    if not 1 <= args.ddp_timeout < LONGEST_WAIT:  # the processes are connected before the other checks
        problems.append(
            f"--ddp_timeout: found {args.ddp_timeout}; expected at least 1 and less than {LONGEST_WAIT}"
        )
    if args.ddp_backend in GPU_BACKENDS and (args.use_cpu or not torch.accelerator.is_available()):
        problems.append(f"--ddp_backend: {args.ddp_backend} needs GPUs, and this run uses a CPU; use gloo")
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if torch.cuda.is_available() and not args.use_cpu and processes > (gpus := torch.cuda.device_count()):
        problems.append(
            f"found {processes} processes and {gpus} GPUs on this machine; expected a GPU for each process: "
            "lower --num_processes of accelerate launch"
        )
    return problems + accelerator_problems(args.accelerator_config)


def is_probability(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def json_value(text: str) -> object:
    """The value that JSON text spells; None if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def accelerator_problems(given: str | dict | None) -> list[str]:
    """Whether --accelerator_config is JSON, or names a file with it, and has accelerate's own names."""
    config = given  # if it is not text, it was read before
    try:
        if isinstance(given, str) and not given.lstrip().startswith("{"):
            config = AcceleratorConfig.from_json_file(given)
        elif isinstance(given, str | dict):
            config = AcceleratorConfig(**(json.loads(given) if isinstance(given, str) else given))
        if config is not None and config.gradient_accumulation_kwargs is not None:
            GradientAccumulationPlugin(**config.gradient_accumulation_kwargs)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        names = ", ".join(field.name for field in dataclasses.fields(AcceleratorConfig))
        return [
            f"--accelerator_config: '{given}' can't be read ({error}); expected JSON, or a file with it, and "
            f"names among {names}"
        ]
    return []


class PlainParser(argparse.ArgumentParser):
    """ArgumentParser with errors of one sentence, that takes `-1e-3` for a number and not for a flag."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._negative_number_matcher = re.compile(
            r"-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$|-(inf|nan)$", re.IGNORECASE
        )

    def error(self, message: str):
        raise UsageError(in_our_words(message))


class RecipeParser(HfArgumentParser, PlainParser):
    """The same for flags from dataclasses."""

    error = PlainParser.error


def in_our_words(message: str) -> str:
    """An error of argparse's as `--flag: found ...; expected ...`."""
    name, _, said = message.partition(": ")
    flag = name.removeprefix("argument ").split("/")[0]
    if wrong := re.fullmatch(r"invalid (\w+) value: (.*)", said, re.DOTALL):
        expected = f"expected {KINDS[wrong[1]]}" if wrong[1] in KINDS else "leave the flag out"
        return f"{flag}: found {wrong[2]}; {expected}"
    if wrong := re.fullmatch(r"invalid choice: (.*) \(choose from (.*)\)", said, re.DOTALL):
        choices = wrong[2].replace("'", "")
        among = (
            choices
            if len(choices) < 300
            else f"those that --help lists{suggestion(wrong[1], choices.split(', '))}"
        )
        return f"{flag}: found {wrong[1]}; expected one of {among}"
    if wrong := re.match(r"Truthy value expected: got (.*) but expected", said, re.DOTALL):
        return f"{flag}: found '{wrong[1]}'; expected true or false"
    if said.startswith("expected") and "argument" in said:
        return f"{flag}: found no value; give one after the flag"
    return f"{message}; see --help"


Arguments = tuple[ModelArguments, DataArguments, RecipeArguments]
OF_A_RUN = (ModelArguments, DataArguments, RecipeArguments)


def parse_flags(argv: Sequence[str], groups: Sequence[type], program: str) -> tuple:
    """Parse `[CONFIG.yaml] [--flag value ...]`. The file's keys become flags before the user's, which win.

    Returns:
        One instance of each dataclass in `groups`.

    Raises:
        UsageError: a bad file, an unknown key or flag, a value of the wrong type.
    """
    parser, words = parser_and_words(argv, groups, program)
    try:
        *arguments, unknown = parser.parse_args_into_dataclasses(
            words, return_remaining_strings=True, look_for_args_file=False
        )
    except (ValueError, TypeError, ImportError) as error:
        said = str(error) if isinstance(error, UsageError) else " ".join(str(error).split())
        raise UsageError(said) from None
    if unknown:
        flags = [name for action in parser._actions for name in action.option_strings]
        hint = suggestion(unknown[0].split("=")[0], flags)
        unknown = [SECRET.sub("***", word) for word in unknown]  # --hub_tokn hf_... is a secret too
        expected = "flags" if unknown[0].startswith("--") else "one CONFIG.yaml at most, then flags"
        raise UsageError(f"found {shlex.join(unknown)}; expected {expected} from --help{hint}")
    return tuple(arguments)


def parser_and_words(
    argv: Sequence[str], groups: Sequence[type], program: str
) -> tuple[RecipeParser, list[str]]:
    """The parser for `groups`, and the command line with its configuration file turned into flags."""
    parser = RecipeParser(
        groups,
        allow_abbrev=False,
        prog=program,
        usage="%(prog)s [CONFIG.yaml] [--flag value ...]",
        description="Each key of CONFIG.yaml is one of these flags. Flags on the command line win over it.",
    )
    words = list(argv)
    if words and words[0].endswith((".yaml", ".yml")):
        words[:1] = config_to_argv(words[0], parser)
    return parser, words


def given_flags(argv: Sequence[str], groups: Sequence[type], program: str) -> dict[str, object]:
    """The settings that the file and the flags name, as `parse_flags` reads them, without any default."""
    parser, words = parser_and_words(argv, groups, program)
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    return vars(parser.parse_known_args(words)[0])


class PlainLoader(yaml.SafeLoader):
    """YAML as people read it: 010 is not 8, 1:30 is not 90, `no` is a word, and 5e-5 is a number.

    These are the scalars of YAML 1.2. Aliases are refused: nine lines of them can spell a billion words.
    """

    yaml_implicit_resolvers = {}

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "found an alias; write the value out", mark)
        return super().compose_node(parent, index)


for tag, pattern, first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    PlainLoader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"(?:{pattern})$"), list(first))


def config_to_argv(path: str, parser: RecipeParser) -> list[str]:
    """Turn a YAML file of `flag: value` into command-line words.

    Raises:
        UsageError: `FILE:LINE: ...` for an unknown or repeated key, or a value that its flag can't take.
    """
    known = {action.dest for action in parser._actions if action.dest != "help"}
    argv = []
    for key_node, value_node, value in config_entries(path):
        key, place = str(key_node.value), f"{path}:{key_node.start_mark.line + 1}"
        if key not in known:
            raise UsageError(
                f"{place}: found the unknown key '{key}'; expected a flag's name{suggestion(key, known)}"
            )
        words = flag_words(place, key, value_node, value)
        try:
            surplus = parser.parse_known_args(words)[1]
        except UsageError as error:
            raise UsageError(f"{place}: {str(error).removeprefix('--')}") from None
        if surplus:
            raise UsageError(f"{place}: '{key}': found {len(value)} values; expected one")
        argv += words
    return argv


def config_entries(path: str) -> list[tuple[yaml.Node, yaml.Node, object]]:
    """The key, the value's node and the value of each line of a YAML file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        loader = PlainLoader(text)
        node = loader.get_single_node()
        value = None if node is None else loader.construct_document(node)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; expected a YAML file of 'flag: value'") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else path
        said = " ".join(str(getattr(error, "problem", None) or error).split())
        raise UsageError(
            f"{place}: not YAML that can be used ({said}); expected lines of 'flag: value'"
        ) from None
    if not isinstance(value, dict) or not isinstance(node, yaml.MappingNode):
        found = "nothing" if value is None else f"a {type(value).__name__}"
        raise UsageError(f"{path}: found {found}; expected lines of 'flag: value'")
    refuse_repeated_keys(path, node)
    return [(key, its, value.get(key.value)) for key, its in node.value]


def refuse_repeated_keys(path: str, node: yaml.Node) -> None:
    """Refuse equal keys at any depth. PyYAML silently takes the last one."""
    seen: set[str] = set()
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if str(key.value) in seen:
            raise UsageError(
                f"{path}:{key.start_mark.line + 1}: found '{key.value}' a second time; expected each key once"
            )
        seen.add(str(key.value))
        refuse_repeated_keys(path, value)


def flag_words(place: str, key: str, node: yaml.Node, value: object) -> list[str]:
    """`--key value` for one YAML value. A scalar is passed on as it is written."""
    if value is None:
        raise UsageError(f"{place}: found no value for '{key}'; give one, or remove the line")
    if isinstance(node, yaml.ScalarNode):
        return [f"--{key}={node.value}"]
    if isinstance(node, yaml.SequenceNode):
        if not all(isinstance(one, yaml.ScalarNode) for one in node.value):
            raise UsageError(f"{place}: '{key}': found a list in a list; expected numbers or words")
        return [f"--{key}", *(one.value for one in node.value)]
    try:
        return [f"--{key}={json.dumps(value)}"]
    except (TypeError, ValueError) as error:  # a set, say
        raise UsageError(f"{place}: '{key}': {error}; use numbers, text, lists, true or false") from None


def suggestion(word: str, known: Sequence[str] | set[str]) -> str:
    """ " (did you mean X?)" for a misspelt word, or nothing."""
    close = difflib.get_close_matches(word, sorted(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
