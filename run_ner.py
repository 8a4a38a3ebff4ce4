"""Fine-tune an encoder for named entity recognition: arguments -> data -> model -> Trainer -> reports -> model card.

    accelerate launch run_ner.py configs/quickstart.yaml [--flag value ...]     # flags win over the file
    python run_ner.py --help

Imports report, model_card, metrics and jnlpba_dataset; lr_range_test and other drivers import this file.
"""

import contextlib
import dataclasses
import difflib
import functools
import importlib.metadata
import importlib.util
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import torch
import transformers
import yaml
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    EvalPrediction,
    HfArgumentParser,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.modeling_outputs import TokenClassifierOutput
from transformers.trainer_pt_utils import get_length_grouped_indices
from transformers.trainer_utils import get_last_checkpoint

from jnlpba_dataset import AlignmentError, CorpusError, decode, encode, fingerprint, load_jnlpba
from metrics import Evaluation, NerScores, flatten
from model_card import write_model_card
from report import ReportCallback, render_mistakes, render_summary, write_split, write_text

ROOT = Path(__file__).resolve().parent
PACKAGE_SCHEME = "package:"
LAST_CHECKPOINT = "last"
SELECTION_METRIC = "f1"
RECORDED_PACKAGES = ("torch", "transformers", "datasets", "accelerate", "evaluate", "seqeval", "tokenizers")


class UsageError(ValueError):
    """Something the user can mend: a flag, a config file, a model. Shown as one message, without traceback."""


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
        default=None, metadata={"help": "Dropout of the attention weights (the model's own if not given)."}
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
    max_seq_length: int = dataclasses.field(
        default=128,
        metadata={
            "help": "Subtokens a window, special tokens included. Longer sentences become several windows."
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
        self.precision_reason = choose_precision(self)
        super().__post_init__()


def choose_precision(args: TrainingArguments) -> str:
    """Fill in args.bf16 and args.fp16 where they were not given; returns what was chosen and why."""
    given = [name for name in ("bf16", "fp16") if getattr(args, name) is not None]
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if given:
        reason = "as the flags say"
    elif launched != "no":
        reason = f"as accelerate launch says ({launched})"
    elif args.use_cpu:
        capable = cpu_has_bf16()
        args.bf16 = capable
        reason = "the CPU has bf16 instructions" if capable else "the CPU has no bf16 instructions"
    elif torch.cuda.is_available():
        args.bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        args.fp16 = not args.bf16
        reason = f"{torch.cuda.get_device_name()} {'has' if args.bf16 else 'lacks'} bf16"
    else:
        reason = "no rule for this device"
    args.bf16, args.fp16 = bool(args.bf16), bool(args.fp16)
    chosen = (
        "bf16"
        if args.bf16
        else "fp16"
        if args.fp16
        else launched
        if not given and launched != "no"
        else "fp32"
    )
    return f"{chosen} ({reason})"


def cpu_has_bf16() -> bool:
    """Whether matrix products in bf16 run on instructions of their own rather than by conversion."""
    capabilities = torch.cpu.get_capabilities()
    return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))


class RecipeParser(HfArgumentParser):
    """HfArgumentParser whose errors are one line instead of a page of usage."""

    def error(self, message: str):
        raise UsageError(message)


Arguments = tuple[ModelArguments, DataArguments, RecipeArguments]


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """Parse `[CONFIG.yaml] [--flag value ...]`; the file's keys become flags ahead of the user's, who win.

    Raises:
        UsageError: a bad file, an unknown key or flag, a value that does not fit.
    """
    parser = RecipeParser(
        (ModelArguments, DataArguments, RecipeArguments), allow_abbrev=False, prog="run_ner.py"
    )
    argv = list(argv)
    if argv and argv[0].endswith((".yaml", ".yml")):
        known = {action.dest for action in parser._actions if action.dest != "help"}
        argv[:1] = config_to_argv(argv[0], known)
    try:
        *arguments, unknown = parser.parse_args_into_dataclasses(
            argv, return_remaining_strings=True, look_for_args_file=False
        )
    except (ValueError, TypeError, ImportError) as error:
        raise UsageError(str(error)) from None
    if unknown:
        flags = [name for action in parser._actions for name in action.option_strings]
        hint = suggestion(unknown[0].split("=")[0], flags)
        raise UsageError(
            f"found {shlex.join(unknown)}; expected flags that --help lists, after one CONFIG.yaml{hint}"
        )
    check_arguments(*arguments)
    return tuple(arguments)


def config_to_argv(path: str, known: set[str]) -> list[str]:
    """Turn a YAML file of `flag: value` into command-line words, refusing keys that are unknown or given twice."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        node, values = yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; expected a YAML file of 'flag: value'") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path}: found {type(values).__name__}; expected lines of 'flag: value'")
    seen: set[str] = set()
    argv = []
    for key_node, _ in node.value:
        key, place = str(key_node.value), f"{path}:{key_node.start_mark.line + 1}"
        if key not in known:
            raise UsageError(
                f"{place}: found the unknown key '{key}'; expected a flag's name{suggestion(key, known)}"
            )
        if key in seen:
            raise UsageError(f"{place}: found '{key}' a second time; expected each key once")
        seen.add(key)
        argv += flag_words(place, key, values[key])
    return argv


def flag_words(place: str, key: str, value: object) -> list[str]:
    """`--key value` for one YAML value."""
    if value is None:
        raise UsageError(f"{place}: found no value for '{key}'; expected one, or leave the line out")
    if isinstance(value, dict):
        return [f"--{key}={json.dumps(value)}"]
    if isinstance(value, list):
        return [f"--{key}", *map(str, value)]
    return [f"--{key}={str(value).lower() if isinstance(value, bool) else value}"]


def suggestion(word: str, known: Sequence[str] | set[str]) -> str:
    close = difflib.get_close_matches(word, sorted(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def check_arguments(model_args: ModelArguments, data_args: DataArguments, args: RecipeArguments) -> None:
    """List every setting that can't work, before anything is loaded."""
    problems = []
    if not model_args.model_name_or_path:
        problems.append("--model_name_or_path: not given; expected a Hub id, a folder or package:NAME/PATH")
    if not (args.do_train or args.do_eval or args.do_predict):
        problems.append("nothing to do; expected --do_train, --do_eval or --do_predict")
    if data_args.dataset_name != "jnlpba":
        problems.append(
            f"--dataset_name: found '{data_args.dataset_name}'; expected jnlpba. For another corpus with the same "
            "labels and format give its folder as --data_dir"
        )
    for name in ("max_train_samples", "max_eval_samples", "max_predict_samples", "preprocessing_num_workers"):
        value = getattr(data_args, name)
        if value is not None and value < 1:
            problems.append(f"--{name}: found {value}; expected 1 or more")
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        value = getattr(model_args, name)
        if value is not None and not 0 <= value < 1:
            problems.append(f"--{name}: found {value}; expected 0 or more and less than 1")
    for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
        if getattr(args, name) < 1:
            problems.append(f"--{name}: found {getattr(args, name)}; expected 1 or more")
    if data_args.show_mistakes < 0:
        problems.append(f"--show_mistakes: found {data_args.show_mistakes}; expected 0 or more")
    if args.push_to_hub:
        problems.append(
            "--push_to_hub: run_ner.py does not upload; train first, then 'hf upload USER/NAME OUTPUT_DIR'"
        )
    if Path(args.output_dir).exists() and not Path(args.output_dir).is_dir():
        problems.append(f"--output_dir: found the file {args.output_dir}; expected a folder")
    if args.do_train:
        problems += checkpoint_problems(args)
    if problems:
        raise UsageError("\n  ".join(problems))


def checkpoint_problems(args: RecipeArguments) -> list[str]:
    """Refuse to mix two trainings in one folder; resolve where to resume from."""
    last = get_last_checkpoint(args.output_dir) if Path(args.output_dir).is_dir() else None
    wanted = args.resume_from_checkpoint
    if wanted is None and last is not None:
        return [
            f"--output_dir: {last} is left of a training that did not end; expected --resume_from_checkpoint to go "
            "on with it, another --output_dir, or that you remove the checkpoint"
        ]
    if wanted is not None and str(wanted).lower() in (LAST_CHECKPOINT, "true"):
        if last is None:
            return [
                f"--resume_from_checkpoint: found no checkpoint in {args.output_dir}; leave the flag out to start anew"
            ]
        args.resume_from_checkpoint = last
    elif wanted is not None and not (Path(wanted) / "trainer_state.json").is_file():
        return [
            f"--resume_from_checkpoint: found no trainer_state.json in {wanted}; expected a checkpoint folder"
        ]
    return []


def resolve_model(name: str) -> str:
    """A Hub id or folder as it is; package:NAME/PATH as the folder inside the installed package."""
    if not name.startswith(PACKAGE_SCHEME):
        return name
    package, _, path = name.removeprefix(PACKAGE_SCHEME).partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(
            f"--model_name_or_path: found no installed package '{package}'; install it, or name a folder"
        )
    folder = Path(spec.submodule_search_locations[0], path)
    if not (folder / "config.json").is_file():
        raise UsageError(f"--model_name_or_path: found no config.json in {folder}; expected a model folder")
    return str(folder)


@contextlib.contextmanager
def model_errors(name: str):
    """Turn what the loaders raise for a wrong name, a broken file or a missing network into one message."""
    try:
        yield
    except UsageError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UsageError(
            f"--model_name_or_path: '{name}' can't be loaded: {type(error).__name__}: {reason}\n  Expected a Hub id "
            "(with network; weights as safetensors, see --model_revision), a model folder, or package:NAME/PATH"
        ) from error


def load_tokenizer(model_args: ModelArguments) -> PreTrainedTokenizerBase:
    """A fast tokenizer that cuts words given one by one as it cuts them in running text."""
    folder = resolve_model(model_args.model_name_or_path)
    options = {"cache_dir": model_args.cache_dir, "revision": model_args.model_revision}
    if model_args.do_lower_case is not None:
        options["do_lower_case"] = model_args.do_lower_case
    with model_errors(model_args.model_name_or_path):
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        if tokenizer.is_fast and not words_keep_their_space(tokenizer):
            tokenizer = AutoTokenizer.from_pretrained(folder, **options, add_prefix_space=True)
            if not words_keep_their_space(tokenizer):
                raise UsageError(
                    f"--model_name_or_path: the tokenizer of '{model_args.model_name_or_path}' cuts separate words "
                    "otherwise than running text, with and without add_prefix_space; expected one that agrees"
                )
    return tokenizer


def words_keep_their_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether words given one by one carry the mark of the space before them (byte-level BPE may drop it)."""
    words = tokenizer(["a", "a"], is_split_into_words=True, add_special_tokens=False)["input_ids"]
    text = tokenizer("a a", add_special_tokens=False)["input_ids"]
    return words[-1] == text[-1]


def load_model(model_args: ModelArguments, labels: Sequence[str], fine_tune: bool) -> PreTrainedModel:
    """The encoder with a head for `labels`; a model that is only evaluated must have that head already.

    Raises:
        UsageError: no such model, weights that are not safetensors, or other labels than the data's.
    """
    folder = resolve_model(model_args.model_name_or_path)
    options = {"cache_dir": model_args.cache_dir, "revision": model_args.model_revision}
    dropout = {
        name: getattr(model_args, name)
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob")
        if getattr(model_args, name) is not None
    }
    with model_errors(model_args.model_name_or_path):
        config = AutoConfig.from_pretrained(folder, **options)
        unknown = [name for name in dropout if not hasattr(config, name)]
        if unknown:
            raise UsageError(
                f"--{unknown[0]}: a {config.model_type} model has no such setting; leave the flag out"
            )
        if not fine_tune:
            check_labels(config.id2label, labels, model_args.model_name_or_path)
        config.update(dropout)
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: number for number, label in enumerate(labels)}
        with quiet_transformers():
            return AutoModelForTokenClassification.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                ignore_mismatched_sizes=fine_tune,
                **options,
            )


@contextlib.contextmanager
def quiet_transformers():
    """Without the loading report: that a classification head is new is what fine-tuning means."""
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)


def check_labels(id2label: dict[int, str], labels: Sequence[str], name: str) -> None:
    """Refuse to score a model by labels that are not its own."""
    found = [id2label[number] for number in sorted(id2label)]
    if found != list(labels):
        raise UsageError(
            f"--model_name_or_path: '{name}' has the labels\n    {', '.join(found)}\n  where the data has\n    "
            f"{', '.join(labels)}\n  in this order; expected the same, or --do_train to fine-tune a new head"
        )


def check_length(
    data_args: DataArguments, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
) -> None:
    positions = getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length
    longest = min(positions, tokenizer.model_max_length)
    if data_args.max_seq_length > longest:
        raise UsageError(
            f"--max_seq_length: found {data_args.max_seq_length}; expected at most {longest}, the model's own limit"
        )


@dataclasses.dataclass
class Split:
    """One part of the corpus: its sentences, and the windows that the model sees."""

    sentences: datasets.Dataset
    windows: datasets.Dataset
    total: int  # sentences before --max_..._samples


def load_splits(
    data_args: DataArguments, args: RecipeArguments, cache_dir: str | None, tokenizer
) -> dict[str, Split]:
    """Load and encode what the run needs, by role: train, validation, test."""
    wanted = {
        "train": (args.do_train, data_args.train_split_name, data_args.max_train_samples),
        "validation": (args.do_train or args.do_eval, data_args.eval_split_name, data_args.max_eval_samples),
        "test": (args.do_predict, "test", data_args.max_predict_samples),
    }
    with args.main_process_first(desc="building the corpus"):
        corpus = load_jnlpba(data_args.data_dir, data_args.dataset_config_name, cache_dir)
        splits = {}
        for role, (needed, name, limit) in wanted.items():
            if needed:
                whole = select_split(corpus, name)
                sentences = whole.select(range(min(limit or len(whole), len(whole))))
                windows = encode_split(sentences, data_args, tokenizer, role)
                splits[role] = Split(sentences, windows, len(whole))
    return splits


def select_split(corpus: datasets.DatasetDict, name: str) -> datasets.Dataset:
    """A split by name; names joined by + are put one after the other."""
    parts = name.split("+")
    unknown = [part for part in parts if part not in corpus]
    if unknown:
        raise UsageError(
            f"found the split '{unknown[0]}' in '{name}'; expected names among {', '.join(corpus)}"
        )
    return datasets.concatenate_datasets([corpus[part] for part in parts])


def encode_split(
    sentences: datasets.Dataset, data_args: DataArguments, tokenizer, role: str
) -> datasets.Dataset:
    """Windows of a split. Those that are evaluated stand longest first, so that batches hold little padding."""
    windows = sentences.map(
        encode,
        batched=True,
        with_indices=True,
        remove_columns=sentences.column_names,
        num_proc=data_args.preprocessing_num_workers,
        desc=f"Encoding {role}",
        fn_kwargs={
            "tokenizer": tokenizer,
            "max_seq_length": data_args.max_seq_length,
            "stride": data_args.stride,
            "label_all_tokens": data_args.label_all_tokens,
            "label_names": label_names(sentences),
        },
    )
    return windows if role == "train" else windows.sort("length", reverse=True)


def label_names(sentences: datasets.Dataset) -> list[str]:
    return list(sentences.features["ner_tags"].feature.names)


class SplitScorer:
    """Trainer's compute_metrics for one split: label ids of windows -> tags of words -> scores.

    Keeps the last evaluation for the reports. Gold goes back from windows to words by the same function as the
    prediction and must equal the corpus, so no batching or sharding can drop, repeat or reorder a word unseen.
    """

    def __init__(self, split: Split, facts: dict[str, str]):
        self.split = split
        self.facts = {**facts, **split_facts(split)}
        self.evaluation: Evaluation | None = None

    def __call__(self, output: EvalPrediction) -> dict[str, float]:
        names = np.array(label_names(self.split.sentences))
        gold, predicted = (decode(self.split.windows, ids) for ids in (output.label_ids, output.predictions))
        if gold != list(self.split.sentences["ner_tags"]):
            raise RuntimeError("the words that came back from the model are not those of the corpus")
        gold, predicted = ([names[tags].tolist() for tags in side] for side in (gold, predicted))
        scores = NerScores().compute(predictions=predicted, references=gold)
        self.evaluation = Evaluation(list(self.split.sentences["tokens"]), gold, predicted, scores)
        return {"loss": mean_loss(output), **headline(scores)}


def split_facts(split: Split) -> dict[str, str]:
    used = len(split.sentences)
    return {
        "sentences": f"{used:,} of {split.total:,}",
        "corpus fingerprint": fingerprint(split.sentences),
    }


def mean_loss(output: EvalPrediction) -> float:
    """Mean loss over labelled subtokens: Trainer repeats each batch's own mean for each of its rows."""
    weights = (output.label_ids != -100).sum(axis=-1)  # (windows,)
    return float(np.average(output.losses, weights=weights))


def headline(scores: dict) -> dict[str, float]:
    """The few scores that are logged at each evaluation; the result files hold all."""
    micro = scores["span"]["micro"]
    return {
        "precision": micro["precision"],
        "recall": micro["recall"],
        SELECTION_METRIC: micro["f1"],
        "macro_f1": scores["span"]["macro"]["f1"],
        "word_f1": scores["word"]["micro"]["f1"],
        "accuracy": scores["accuracy"],
        "entities": scores["entities"],
    }


def predicted_ids(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Reduce logits (batch, tokens, labels) to label ids (batch, tokens) on the device, before Trainer keeps them."""
    return logits.argmax(dim=-1)


def token_loss(
    outputs: TokenClassifierOutput,
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Cross entropy summed over labelled subtokens, divided by their number in the whole accumulated batch.

    BERT's own loss averages each micro-batch and ignores that number, though Trainer takes it to have been used:
    8 x 4 would then train with four times the gradient of 32 x 1.
    """
    logits = outputs.logits.float().flatten(0, 1)  # (batch * tokens, labels)
    total = torch.nn.functional.cross_entropy(
        logits, labels.flatten(), ignore_index=-100, reduction="sum", label_smoothing=label_smoothing
    )
    return total / (num_items_in_batch if num_items_in_batch is not None else labels.ne(-100).sum())


class LikeLengthSampler(torch.utils.data.Sampler):
    """Batches of like length in an order that depends on the seed and the epoch alone.

    transformers' own sampler draws from the global random state, which dropout moves on: processes on a CPU then
    disagree about the order from the second epoch on, and train on some rows twice. It also leaves batches sorted
    within each stretch of fifty; here whole batches are shuffled, all but the first, which holds the longest row.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int):
        self.lengths = list(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        indices = get_length_grouped_indices(self.lengths, self.batch_size, generator=generator)
        batches = [indices[i : i + self.batch_size] for i in range(0, len(indices), self.batch_size)]
        full = len(batches) - (len(batches[-1]) < self.batch_size)
        order = torch.randperm(max(full - 1, 0), generator=generator) + 1
        for batch in [0, *order.tolist(), *range(max(full, 1), len(batches))]:
            yield from batches[batch]


class NerTrainer(Trainer):
    """Trainer whose training batches hold rows of like length and whose evaluations keep the rows' order."""

    def _get_train_sampler(self, train_dataset: datasets.Dataset | None = None):
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        together = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return LikeLengthSampler(self.train_dataset["length"], together, seed)

    def _get_eval_sampler(self, eval_dataset: datasets.Dataset):
        # Trainer's own would group by length too, and prediction row i would no longer be dataset row i.
        return torch.utils.data.SequentialSampler(eval_dataset)


def build_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    splits: dict[str, Split],
    args: RecipeArguments,
    data_args: DataArguments,
    facts: dict[str, str],
) -> tuple[Trainer, dict[str, SplitScorer]]:
    """The Trainer, and a scorer for each split that is evaluated."""
    scorers = {role: SplitScorer(split, facts) for role, split in splits.items() if role != "train"}
    args.include_for_metrics = ["loss"]
    trainer = NerTrainer(
        model=model,
        args=args,
        train_dataset=splits["train"].windows if "train" in splits else None,
        eval_dataset=splits["validation"].windows if "validation" in splits else None,
        processing_class=tokenizer,
        data_collator=DataCollatorForTokenClassification(
            tokenizer, pad_to_multiple_of=8 if args.fp16 else None
        ),
        compute_metrics=scorers.get("validation"),
        compute_loss_func=functools.partial(token_loss, label_smoothing=args.label_smoothing_factor),
        preprocess_logits_for_metrics=predicted_ids,
    )
    if "validation" in scorers:
        trainer.add_callback(ReportCallback(args.output_dir, scorers["validation"], data_args.show_mistakes))
    return trainer, scorers


def train(trainer: Trainer, args: RecipeArguments) -> None:
    """Train, restore the best epoch, and save model, tokenizer and training state."""
    result = trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_model()
    # A pickle of the arguments, a Hub token among them, has no place in a folder that is published.
    if trainer.is_world_process_zero():
        Path(args.output_dir, "training_args.bin").unlink(missing_ok=True)
    trainer.log_metrics("train", result.metrics)
    trainer.save_metrics("train", result.metrics)
    trainer.save_state()


def evaluate_split(trainer: Trainer, role: str, split: Split, scorer: SplitScorer) -> None:
    """Score one split with the selected model and write its result file."""
    trainer.compute_metrics = scorer
    if role == "validation":
        prefix, metrics = "eval", trainer.evaluate()
    else:
        prefix, metrics = role, trainer.predict(split.windows, metric_key_prefix=role).metrics
    trainer.save_metrics(prefix, {**metrics, **flatten(scorer.evaluation.scores, f"{prefix}_")})


def run_facts(model_args: ModelArguments, args: RecipeArguments, argv: Sequence[str]) -> dict[str, str]:
    """What every report says of where its figures come from."""
    return {
        "model": model_args.model_name_or_path,
        "seed": str(args.seed),
        "precision": args.precision_reason,
        "commit": current_commit(),
        "command": shlex.join(["run_ner.py", *without_token(argv)]),
    }


def without_token(argv: Sequence[str]) -> list[str]:
    """The command line with the value of --hub_token struck out."""
    shown = []
    hide = False
    for word in argv:
        flag = word.split("=")[0].replace("-", "_")
        shown.append("***" if hide else "--hub_token=***" if flag == "__hub_token" and "=" in word else word)
        hide = flag == "__hub_token" and "=" not in word
    return shown


def current_commit() -> str:
    """The commit this file runs from, marked if files differ from it; `unknown` outside a git checkout."""
    git = ["git", "-C", str(ROOT)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + (" with uncommitted changes" if changed.strip() else "")


def device_name(args: RecipeArguments) -> str:
    if args.device.type == "cuda":
        return torch.cuda.get_device_name()
    cpu = torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine()
    return f"{cpu}, {torch.get_num_threads()} threads" if args.device.type == "cpu" else args.device.type


def write_run(
    args: RecipeArguments, facts: dict[str, str], scorers: dict[str, SplitScorer], seconds: float
) -> None:
    """run.json: all that a recorded result needs beside its scores."""
    packages = {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES}
    record = {
        **facts,
        "seed": args.seed,
        "processes": args.world_size,
        "device": device_name(args),
        "seconds": round(seconds, 1),
        "versions": {"python": platform.python_version(), **packages},
        "splits": {role: scorer.facts["sentences"] for role, scorer in scorers.items()},
        "fingerprints": {role: scorer.facts["corpus fingerprint"] for role, scorer in scorers.items()},
    }
    write_text(Path(args.output_dir) / "run.json", json.dumps(record, indent=2) + "\n")


def finish(
    model_args: ModelArguments,
    data_args: DataArguments,
    args: RecipeArguments,
    facts: dict[str, str],
    scorers: dict[str, SplitScorer],
    seconds: float,
) -> None:
    """On the main process: test files, model card, record, final screen; checkpoints of a finished run go."""
    evaluations = {
        role: scorer.evaluation for role, scorer in scorers.items() if scorer.evaluation is not None
    }
    if "test" in evaluations:
        write_split(args.output_dir, "test", evaluations["test"], scorers["test"].facts)
        if data_args.show_mistakes:
            print(render_mistakes(evaluations["test"], data_args.show_mistakes))
    name = model_args.model_name_or_path
    base = None if name.startswith(PACKAGE_SCHEME) or Path(name).exists() else name
    if args.do_train:
        dataset = (data_args.dataset_name, data_args.dataset_config_name)
        write_model_card(args.output_dir, evaluations, facts, base, dataset)
    write_run(args, facts, scorers, seconds)
    if args.do_train:
        for checkpoint in Path(args.output_dir).glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
    print(render_summary(evaluations, args.output_dir))


def run(
    model_args: ModelArguments, data_args: DataArguments, args: RecipeArguments, argv: Sequence[str]
) -> None:
    """One run: load, train, evaluate the splits in turn, report."""
    start = time.perf_counter()
    set_seed(args.seed)
    tokenizer = load_tokenizer(model_args)
    splits = load_splits(data_args, args, model_args.cache_dir, tokenizer)
    labels = label_names(next(iter(splits.values())).sentences)
    model = load_model(model_args, labels, fine_tune=args.do_train)
    check_length(data_args, tokenizer, model)
    facts = run_facts(model_args, args, argv)
    if data_args.eval_split_name == "test":
        facts["protocol"] = "the test split selected the model: its score is optimistic"
    trainer, scorers = build_trainer(model, tokenizer, splits, args, data_args, facts)
    if trainer.is_world_process_zero():
        print(f"Precision: {args.precision_reason}")
    if args.do_train:
        train(trainer, args)
    for role, wanted in (("validation", args.do_eval), ("test", args.do_predict)):
        if wanted:
            evaluate_split(trainer, role, splits[role], scorers[role])
    if trainer.is_world_process_zero():
        finish(model_args, data_args, args, facts, scorers, time.perf_counter() - start)
    trainer.end()


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    try:
        run(*parse_arguments(argv), argv)
    except (UsageError, CorpusError, AlignmentError) as error:
        if int(os.environ.get("LOCAL_RANK", 0)) <= 0:
            print(f"run_ner.py: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
