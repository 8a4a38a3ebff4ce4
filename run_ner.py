"""Fine-tune an encoder for named entity recognition: arguments -> data -> model -> Trainer -> reports -> Hub.

    accelerate launch run_ner.py configs/quickstart.yaml [--flag value ...]     # flags win over the file
    python run_ner.py --help

Imports arguments, report, model_card, served, publish, metrics and jnlpba_dataset.
"""

import contextlib
import dataclasses
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
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    set_seed,
)
from transformers.modeling_outputs import TokenClassifierOutput
from transformers.trainer_pt_utils import get_length_grouped_indices

from arguments import (
    LONGEST_WINDOW,
    SELECTION_METRIC,
    DataArguments,
    ModelArguments,
    RecipeArguments,
    UsageError,
    checkpoints,
    parse_arguments,
)
from jnlpba_dataset import (
    AlignmentError,
    CorpusError,
    corpus_name,
    decode,
    encode,
    fingerprint,
    load_jnlpba,
    source_sha256,
    split_counts,
    with_abstracts,
)
from metrics import Evaluation, NerScores, flatten
from model_card import write_model_card
from publish import CORPUS_TEXT, PublishError, check_access, publish_folder
from report import (
    ReportCallback,
    kept_history,
    render_mistakes,
    render_summary,
    training_facts,
    write_split,
    write_text,
)
from served import STRATEGIES, recommended, serve_check, serving_stride

ROOT = Path(__file__).resolve().parent
PACKAGE_SCHEME = "package:"
PREFIXES = {"validation": "eval", "test": "test"}  # as Trainer names its result files
RESULT_FILES = (
    *("run.json", "all_results.json", "train_results.json", "eval_results.json", "test_results.json"),
    *("classification_report.txt", "classification_report_test.txt", "trainer_state.json"),
    *("predictions_validation.tsv", "predictions_test.tsv", "mistakes_validation.txt", "mistakes_test.txt"),
)
RECORDED_PACKAGES = (
    *("torch", "transformers", "tokenizers", "datasets", "accelerate", "evaluate", "seqeval"),
    "huggingface_hub",
)
# The settings that a card lists; the command in run.json says what else was set.
LISTED_SETTINGS = {
    "data": ("train_on_abstracts", "label_all_tokens", "max_seq_length"),
    "trainer": (
        *("learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size"),
        *("gradient_accumulation_steps", "warmup_steps", "lr_scheduler_type", "optim", "weight_decay"),
        *("max_grad_norm", "label_smoothing_factor", "train_sampling_strategy", "metric_for_best_model"),
    ),
    "encoder": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
}


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
            f"--model_name_or_path: '{name}' can't be loaded: {type(error).__name__}: {reason}\n  Expected "
            "a Hub id (with network; weights as safetensors, see --model_revision), a model folder, or "
            "package:NAME/PATH"
        ) from error


def loading_options(model_args: ModelArguments) -> dict:
    """Options of each from_pretrained; code that a model brings along is never run, nor asked about."""
    return {
        "cache_dir": model_args.cache_dir,
        "revision": model_args.model_revision,
        "trust_remote_code": False,
    }


def load_tokenizer(model_args: ModelArguments) -> PreTrainedTokenizerBase:
    """A fast tokenizer that cuts words given one by one as it cuts them in running text."""
    folder = resolve_model(model_args.model_name_or_path)
    options = loading_options(model_args)
    if model_args.do_lower_case is not None:
        options["do_lower_case"] = model_args.do_lower_case
    with model_errors(model_args.model_name_or_path):
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        if tokenizer.is_fast and not words_keep_their_space(tokenizer):
            tokenizer = AutoTokenizer.from_pretrained(folder, **options, add_prefix_space=True)
            add_prefix_space(tokenizer)
            if not words_keep_their_space(tokenizer):
                raise UsageError(
                    f"--model_name_or_path: the tokenizer of '{model_args.model_name_or_path}' cuts "
                    "separate words otherwise than running text, even with add_prefix_space; expected "
                    "one that agrees"
                )
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise UsageError(
            f"--model_name_or_path: '{model_args.model_name_or_path}' has no vocabulary; expected "
            "tokenizer files"
        )
    tokenizer.padding_side = "right"  # the places of words in a window count from its left
    return tokenizer


def add_prefix_space(tokenizer: PreTrainedTokenizerBase) -> None:
    """Switch add_prefix_space on in the tokenizer itself: not each class does when it is loaded with it."""
    backend = tokenizer.backend_tokenizer
    state = backend.to_str().replace('"add_prefix_space":false', '"add_prefix_space":true')
    changed = type(backend).from_str(state)
    backend.pre_tokenizer, backend.post_processor = changed.pre_tokenizer, changed.post_processor


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
    options = loading_options(model_args)
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
            model, loading = AutoModelForTokenClassification.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                ignore_mismatched_sizes=fine_tune,
                output_loading_info=True,
                **options,
            )
        check_weights(model, loading, fine_tune)
        return model


def check_weights(model: PreTrainedModel, loading: dict, fine_tune: bool) -> None:
    """Refuse a model part of which would be random: all but the head in training, anything in scoring."""
    mismatched = [entry if isinstance(entry, str) else entry[0] for entry in loading["mismatched_keys"]]
    new = sorted({*loading["missing_keys"], *mismatched})
    if fine_tune:
        new = [name for name in new if name.startswith(f"{model.base_model_prefix}.")]
    if new:
        raise UsageError(
            f"--model_name_or_path: {len(new)} weights are missing or of another size than the configuration "
            f"says, {new[0]} among them; expected a model whose weights and config.json belong together"
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
            f"--model_name_or_path: '{name}' has the labels\n    {', '.join(found)}\n  where the data has\n"
            f"    {', '.join(labels)}\n  in this order; expected the same, or --do_train to fit a new head"
        )


def fit(data_args: DataArguments, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Settle the length of a window, which the saved tokenizer then carries; refuse a pair that does not fit.

    What is longer than the windows of the training is cut by `pipeline` as it was in training.
    """
    longest = min(position_limit(model), tokenizer.model_max_length)
    if data_args.max_seq_length is None:
        data_args.max_seq_length = min(longest, LONGEST_WINDOW)
    if data_args.max_seq_length > longest:
        raise UsageError(
            f"--max_seq_length: found {data_args.max_seq_length}; expected at most {longest}, the model's "
            "own limit"
        )
    tokenizer.model_max_length = data_args.max_seq_length
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise UsageError(
            f"--model_name_or_path: the tokenizer has {len(tokenizer)} entries, the model embeds "
            f"{model.get_input_embeddings().num_embeddings}; expected a pair that belongs together"
        )


def position_limit(model: PreTrainedModel) -> int:
    """Subtokens that a model has positions for; those of RoBERTa's kind count from after the padding's."""
    positions = getattr(model.config, "max_position_embeddings", 0)
    if positions <= 0:
        return sys.maxsize
    tables = [
        module for name, module in model.named_modules() if name.endswith("embeddings.position_embeddings")
    ]
    padding = getattr(tables[0], "padding_idx", None) if tables else None
    return positions if padding is None else positions - padding - 1


@dataclasses.dataclass
class Split:
    """One part of the corpus: its sentences, and (once encoded) the windows that the model sees."""

    name: str
    sentences: datasets.Dataset
    total: int  # sentences before --max_..._samples
    windows: datasets.Dataset | None = None


def load_splits(data_args: DataArguments, args: RecipeArguments, cache_dir: str | None) -> dict[str, Split]:
    """Load what the run needs, by role: train, validation, test."""
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
                splits[role] = Split(name, sentences, len(whole))
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


def encode_split(split: Split, role: str, data_args: DataArguments, tokenizer) -> None:
    """Cut a split into windows; those to be evaluated longest first, so that batches hold little padding."""
    sentences = split.sentences
    if role == "train" and data_args.train_on_abstracts:
        sentences = with_abstracts(sentences)
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
    if role != "train":
        windows = windows.select(np.argsort(-np.array(windows["length"]), kind="stable"))
    split.windows = windows


def label_names(sentences: datasets.Dataset) -> list[str]:
    return list(sentences.features["ner_tags"].feature.names)


class SplitScorer:
    """Trainer's compute_metrics for one split: label ids of windows -> tags of words -> scores.

    Keeps the last evaluation for the reports. Gold goes back from windows to words by the same function as
    the prediction and must equal the corpus, so no batching or sharding can drop, repeat or reorder a word
    unseen.
    """

    def __init__(self, split: Split, facts: dict[str, str]):
        self.split = split
        self.facts = {**facts, **corpus_facts(split)}
        self.evaluation: Evaluation | None = None
        self.metrics: dict[str, float] = {}
        self.served: dict | None = None

    def __call__(self, output: EvalPrediction) -> dict[str, float]:
        names = np.array(label_names(self.split.sentences))
        gold, predicted = (decode(self.split.windows, ids) for ids in (output.label_ids, output.predictions))
        if gold != list(self.split.sentences["ner_tags"]):
            raise RuntimeError("the words that came back from the model are not those of the corpus")
        gold, predicted = ([names[tags].tolist() for tags in side] for side in (gold, predicted))
        scores = NerScores().compute(predictions=predicted, references=gold)
        self.evaluation = Evaluation(list(self.split.sentences["tokens"]), gold, predicted, scores)
        return {"loss": mean_loss(output), **headline(scores)}


def corpus_facts(split: Split) -> dict[str, str]:
    used, windows, cut = len(split.sentences), len(split.windows), sum(split.windows["cut_words"])
    facts = {
        "sentences": f"{used:,} of {split.total:,}, in {windows:,} windows",
        "corpus fingerprint": fingerprint(split.sentences),
    }
    if cut:
        facts["cut words"] = f"{cut:,} with more subtokens than a window holds, scored by their first"
    return facts


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
    """Reduce logits (batch, tokens, labels) to label ids (batch, tokens) on the device, to be kept."""
    return logits.argmax(dim=-1)


def token_loss(
    outputs: TokenClassifierOutput,
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Cross entropy summed over labelled subtokens, divided by their number in the whole accumulated batch.

    BERT's own loss averages each micro-batch and ignores that number, though Trainer takes it to have been
    used: 8 x 4 would then train with four times the gradient of 32 x 1.
    """
    logits = outputs.logits.float().flatten(0, 1)  # (batch * tokens, labels)
    total = torch.nn.functional.cross_entropy(
        logits, labels.flatten(), ignore_index=-100, reduction="sum", label_smoothing=label_smoothing
    )
    return total / (num_items_in_batch if num_items_in_batch is not None else labels.ne(-100).sum())


class LikeLengthSampler(torch.utils.data.Sampler):
    """Batches of like length in an order that depends on the seed and the epoch alone.

    transformers' own sampler draws from the global random state, which dropout moves on: processes on a CPU
    then disagree about the order from the second epoch on, and train on some rows twice. It also leaves
    batches sorted within each stretch of fifty; here whole batches are shuffled, all but the first, which
    holds the longest row.
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

    def create_model_card(self, **options) -> None:
        """The recipe's own card, from the files of the run, where Trainer.push_to_hub would put its draft."""
        if self.is_world_process_zero():
            write_model_card(self.args.output_dir)


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
    try:
        trainer = NerTrainer(
            model=model,
            args=args,
            train_dataset=splits["train"].windows if "train" in splits else None,
            eval_dataset=splits["validation"].windows if "validation" in splits else None,
            processing_class=tokenizer,
            data_collator=DataCollatorForTokenClassification(tokenizer),
            compute_metrics=scorers.get("validation"),
            compute_loss_func=functools.partial(token_loss, label_smoothing=args.label_smoothing_factor),
            preprocess_logits_for_metrics=predicted_ids,
        )
    except (ValueError, RuntimeError, ImportError) as error:  # a setting or a logger that can't be had here
        raise UsageError(" ".join(str(error).split())) from error
    if "validation" in scorers:
        trainer.add_callback(ReportCallback(args.output_dir, scorers["validation"], data_args.show_mistakes))
    return trainer, scorers


def train(trainer: Trainer, args: RecipeArguments, scorers: dict[str, SplitScorer]) -> None:
    """Train, restore the best epoch, save model, tokenizer and state; the reports learn which epoch it is."""
    result = trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_model()
    # A pickle of the arguments, a Hub token among them, has no place in a folder that is published.
    if trainer.is_world_process_zero():
        Path(args.output_dir, "training_args.bin").unlink(missing_ok=True)
    trainer.log_metrics("train", result.metrics)
    trainer.save_metrics("train", result.metrics)
    trainer.save_state()
    kept = kept_history(args, trainer.state)
    for scorer in scorers.values():
        scorer.facts |= training_facts(args, kept) if kept else {}


def clear_results(output_dir: str, do_train: bool) -> None:
    """Remove what an earlier run wrote: a folder tells of one run, never of two models' scores."""
    for name in (*RESULT_FILES, *(["README.md"] if do_train else [])):
        Path(output_dir, name).unlink(missing_ok=True)


def evaluate_split(trainer: Trainer, role: str, split: Split, scorer: SplitScorer) -> None:
    """Score one split with the selected model and write its result file."""
    trainer.compute_metrics = scorer
    if role == "validation":
        scorer.metrics = trainer.evaluate()
    else:
        scorer.metrics = trainer.predict(split.windows, metric_key_prefix=role).metrics
    prefix = PREFIXES[role]
    scorer.facts[f"{role} loss"] = f"{scorer.metrics[f'{prefix}_loss']:.4f} (mean over labelled subtokens)"
    scorer.metrics |= flatten(scorer.evaluation.scores, f"{prefix}_")
    trainer.save_metrics(prefix, scorer.metrics)


def serve_split(
    trainer: Trainer, model_args: ModelArguments, data_args: DataArguments, role: str, scorer: SplitScorer
) -> None:
    """Score what `pipeline("ner")` answers with the saved (or the given) model; add it to the result file."""
    args = trainer.args
    place = {"model": args.output_dir}
    if not args.do_train:
        place = {"model": resolve_model(model_args.model_name_or_path), "revision": model_args.model_revision}
    scorer.served = serve_check(
        **place,
        evaluation=scorer.evaluation,
        document_ids=scorer.split.sentences["document_id"],
        batch_size=args.per_device_eval_batch_size,
        disable_tqdm=args.disable_tqdm,
        device=args.device,
    )
    scorer.metrics |= flatten(scorer.served, f"{PREFIXES[role]}_served_")
    trainer.save_metrics(PREFIXES[role], scorer.metrics)


def run_facts(
    model_args: ModelArguments, data_args: DataArguments, args: RecipeArguments, argv: Sequence[str]
) -> dict[str, str]:
    """What every report says of where its figures come from."""
    facts = {
        "model": model_args.model_name_or_path,
        "seed": str(args.seed),
        "precision": args.precision_reason,
        "commit": current_commit(),
        "command": shlex.join(["run_ner.py", *without_token(argv)]),
    }
    if "test" in f"{data_args.train_split_name}+{data_args.eval_split_name}".split("+"):
        facts["protocol"] = "the test split trained or selected the model: its score is optimistic"
    return facts


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


def one_process_note(args: RecipeArguments) -> str | None:
    """accelerate launch --cpu --num_processes N starts one process (it leaves the others to MPI): say so."""
    asked = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true") and "MASTER_PORT" in os.environ
    if not asked or args.world_size > 1:
        return None
    return "Processes: 1, all that accelerate launch --cpu starts; for N: torchrun --nproc_per_node N ..."


def use_cores(args: RecipeArguments) -> None:
    """Give a process its share of the CPU's cores where accelerate launch left it one thread, its default.

    On two cores that default takes 1.5 times as long. OMP_NUM_THREADS above 1 is the user's, and is kept.
    """
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ and os.environ.get("OMP_NUM_THREADS") == "1"
    if launched and args.device.type == "cpu":
        cores = torch.cpu.get_capabilities()["num_physical_cores"]
        torch.set_num_threads(max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


def device_name(args: RecipeArguments) -> str:
    if args.device.type == "cuda":
        return torch.cuda.get_device_name()
    cpu = torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine()
    return f"{cpu}, {torch.get_num_threads()} threads" if args.device.type == "cpu" else args.device.type


def run_record(
    model_args: ModelArguments,
    data_args: DataArguments,
    trainer: Trainer,
    splits: dict[str, Split],
    scorers: dict[str, SplitScorer],
    facts: dict[str, str],
) -> dict:
    """run.json: all that a recorded result and a model card need beside the scores."""
    args = trainer.args
    kept = kept_history(args, trainer.state)
    base = model_args.model_name_or_path
    sources = {"data": data_args, "trainer": args, "encoder": trainer.model.config}
    packages = {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES}
    return {
        **facts,
        "name": Path(args.output_dir).resolve().name,
        "output_dir": args.output_dir,
        "repository": args.hub_model_id,
        "license": model_args.model_license,
        "base_model": None if base.startswith(PACKAGE_SCHEME) or Path(base).exists() else base,
        "corpus": corpus_name(data_args.data_dir, data_args.dataset_config_name),
        "protocol": facts.get("protocol"),
        "seed": args.seed,
        "processes": args.world_size,
        "device": device_name(args),
        "versions": {"python": platform.python_version(), **packages},
        "labels": list(trainer.model.config.id2label.values()),
        "settings": {
            name: plain(getattr(source, name))
            for group, source in sources.items()
            for name in LISTED_SETTINGS[group]
            if hasattr(source, name)
        },
        "training": training_facts(args, kept) if kept else {},
        "splits": split_records(data_args, splits),
        "max_seq_length": data_args.max_seq_length,
        "stride": serving_stride(data_args.max_seq_length),
        "served": served_record(splits, scorers),
    }


def plain(value: object) -> object:
    """An enumeration's value; anything else as it is."""
    return getattr(value, "value", value)


def split_records(data_args: DataArguments, splits: dict[str, Split]) -> dict[str, dict]:
    """What was read of the corpus: name, counts, checksums of the content and of the file."""
    sha256 = source_sha256(data_args.data_dir, data_args.dataset_config_name)
    return {
        role: {
            "name": split.name,
            **split_counts(split.sentences),
            "windows": len(split.windows),
            "sha256": " + ".join(sha256[part] for part in split.name.split("+")),
        }
        for role, split in splits.items()
    }


def served_record(splits: dict[str, Split], scorers: dict[str, SplitScorer]) -> dict | None:
    """The aggregation strategy to recommend, by validation where it was served, and by what it was chosen."""
    role = next((role for role, scorer in scorers.items() if scorer.served), None)
    if role is None:
        return None
    strategy = recommended(scorers[role].served)
    return {"strategy": strategy, "chosen_on": splits[role].name, "strategies": STRATEGIES}


def write_reports(
    args: RecipeArguments, scorers: dict[str, SplitScorer], show_mistakes: int, strategy: str | None
) -> None:
    """The files of each split, with what the pipeline serves where that was checked."""
    for role, scorer in scorers.items():
        write_split(args.output_dir, role, scorer.evaluation, scorer.facts, scorer.served, strategy)
        if show_mistakes:
            print(render_mistakes(scorer.evaluation, show_mistakes))


def finish(trainer: Trainer, scorers: dict[str, SplitScorer], record: dict, show_mistakes: int) -> None:
    """On the main process: reports, record, card, final screen; checkpoints of a finished run go."""
    args = trainer.args
    served = record["served"]
    write_reports(args, scorers, show_mistakes, served and served["strategy"])
    write_text(Path(args.output_dir) / "run.json", json.dumps(record, indent=2) + "\n")
    if args.do_train:
        trainer.create_model_card()
        for checkpoint in checkpoints(args.output_dir):
            shutil.rmtree(checkpoint)
    evaluations = {role: scorer.evaluation for role, scorer in scorers.items()}
    print(render_summary(evaluations, args.output_dir))


def prepare_publishing(args: RecipeArguments) -> bool:
    """Whether to publish; tries the token before any work, and settles the repository's full name.

    Trainer is not told: it would make the repository at once and push at each checkpoint.
    """
    wanted, args.push_to_hub = args.push_to_hub, False
    if wanted and args.process_index == 0:
        args.hub_model_id = check_access(args.hub_model_id, args.output_dir, args.hub_token)
    return wanted


def publish(args: RecipeArguments, record: dict) -> None:
    """Push the finished folder; text of a corpus that is not public stays at home."""
    exclude = CORPUS_TEXT if record["corpus"] == "custom" else ()
    url = publish_folder(
        args.output_dir,
        record["repository"],
        message=f"{record['name']}: trained by {record['command']} at {record['commit']}",
        token=args.hub_token,
        private=args.hub_private_repo,
        revision=args.hub_revision,
        exclude=exclude,
    )
    kept = f" (left here, since they hold the corpus's text: {', '.join(exclude)})" if exclude else ""
    print(f"Published: {url}{kept}")


def run(
    model_args: ModelArguments, data_args: DataArguments, args: RecipeArguments, argv: Sequence[str]
) -> None:
    """One run: load, train, evaluate the splits in turn, serve, report, publish."""
    start = time.perf_counter()
    use_cores(args)
    set_seed(args.seed)
    to_publish = prepare_publishing(args)
    tokenizer = load_tokenizer(model_args)
    splits = load_splits(data_args, args, model_args.cache_dir)
    labels = label_names(next(iter(splits.values())).sentences)
    model = load_model(model_args, labels, fine_tune=args.do_train)
    fit(data_args, tokenizer, model)
    with args.main_process_first(desc="encoding"):
        for role, split in splits.items():
            encode_split(split, role, data_args, tokenizer)
    facts = run_facts(model_args, data_args, args, argv)
    trainer, scorers = build_trainer(model, tokenizer, splits, args, data_args, facts)
    if trainer.is_world_process_zero():
        print(*filter(None, [f"Precision: {args.precision_reason}", one_process_note(args)]), sep="\n")
        if not args.resume_from_checkpoint:
            clear_results(args.output_dir, args.do_train)
    if args.do_train:
        train(trainer, args, scorers)
    wanted = {"validation": args.do_eval, "test": args.do_predict}
    scorers = {role: scorer for role, scorer in scorers.items() if wanted[role]}
    for role, scorer in scorers.items():
        evaluate_split(trainer, role, splits[role], scorer)
    if trainer.is_world_process_zero():
        for role, scorer in scorers.items() if data_args.do_serve_check else ():
            serve_split(trainer, model_args, data_args, role, scorer)
        record = run_record(model_args, data_args, trainer, splits, scorers, facts)
        record["seconds"] = round(time.perf_counter() - start, 1)
        finish(trainer, scorers, record, data_args.show_mistakes)
        if to_publish:
            publish(args, record)
    trainer.end()


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    try:
        run(*parse_arguments(argv), argv)
    except (UsageError, CorpusError, AlignmentError) as error:
        return report_error(str(error), 2)
    except PublishError as error:
        return report_error(f"--push_to_hub: {error}", 1)
    except KeyboardInterrupt:
        return report_error("interrupted; --resume_from_checkpoint goes on from the last checkpoint", 130)
    except Exception as error:  # what no check foresaw, most often a setting: still one message
        if "debug" in argv:
            raise
        reason = " ".join(str(error).split())[:500]
        return report_error(f"{type(error).__name__}: {reason} (the traceback: --log_level debug)", 1)
    return 0


def report_error(message: str, code: int) -> int:
    """Print a message once, whatever the number of processes; returns the exit code."""
    if int(os.environ.get("LOCAL_RANK", 0)) <= 0:
        print(f"run_ner.py: error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
