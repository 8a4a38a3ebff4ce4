"""Fine-tune an encoder for named entity recognition: arguments -> data -> model -> Trainer -> reports -> Hub.

    accelerate launch run_ner.py configs/quickstart.yaml [--flag value ...]     # flags win over the file
    python run_ner.py --help

The top of the house: it imports all the others.
"""

import contextlib
import dataclasses
import functools
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import datasets
import numpy as np
import torch
from transformers import (
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
    SELECTION_METRIC,
    DataArguments,
    ModelArguments,
    RecipeArguments,
    UsageError,
    checkpoints,
    parse_arguments,
)
from encoder import fit_together, load_model, load_tokenizer, resolve_model
from intervals import intervals
from jnlpba_dataset import (
    AlignmentError,
    CorpusError,
    decode,
    encode,
    fingerprint,
    load_jnlpba,
    with_abstracts,
)
from metrics import Evaluation, NerScores, flatten
from model_card import write_model_card
from page import PageCallback, Story, begin_story, end_story, write_page
from publish import CORPUS_TEXT, PublishError, check_access, publish_folder
from record import run_facts, run_record
from report import (
    RESULT_FILES,
    VALIDATION_FILES,
    ReportCallback,
    kept_history,
    render_mistakes,
    render_summary,
    training_facts,
    write_split,
    write_text,
)
from served import ServeError, serve_check

PREFIXES = {"validation": "eval", "test": "test"}  # as Trainer names its result files


@dataclasses.dataclass
class Split:
    """One part of the corpus: its sentences, and (once encoded) the windows that the model sees."""

    name: str
    sentences: datasets.Dataset
    total: int  # sentences before --max_..._samples
    windows: datasets.Dataset | None = None


def load_splits(
    roles: Sequence[str], data_args: DataArguments, args: RecipeArguments, cache_dir: str | None
) -> dict[str, Split]:
    """Load parts of the corpus by their roles: train, validation, test."""
    parts = {
        "train": (data_args.train_split_name, data_args.max_train_samples),
        "validation": (data_args.eval_split_name, data_args.max_eval_samples),
        "test": ("test", data_args.max_predict_samples),
    }
    with args.main_process_first(desc="building the corpus"):
        corpus = load_jnlpba(data_args.data_dir, data_args.dataset_config_name, cache_dir)
        splits = {}
        for role in roles:
            name, limit = parts[role]
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
        ids, probabilities = output.predictions
        gold, predicted = (decode(self.split.windows, side) for side in (output.label_ids, ids))
        if gold != list(self.split.sentences["ner_tags"]):
            raise RuntimeError("the words that came back from the model are not those of the corpus")
        gold, predicted = ([names[tags].tolist() for tags in side] for side in (gold, predicted))
        scores = NerScores().compute(predictions=predicted, references=gold)
        self.evaluation = Evaluation(
            list(self.split.sentences["tokens"]),
            gold,
            predicted,
            scores,
            documents=numbered(self.split.sentences["document_id"]),
            confidence=decode(self.split.windows, probabilities, kind=float),
        )
        return {"loss": mean_loss(output), **headline(scores)}


def numbered(names: Iterable[str]) -> list[int]:
    """A number for each distinct name, in the order in which they first come."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(name, len(numbers)) for name in names]


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


def predicted_ids(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Reduce logits (batch, tokens, labels) on the device to label ids and their probabilities, to be kept.

    Both are (batch, tokens).
    """
    probabilities, ids = logits.float().softmax(dim=-1).max(dim=-1)
    return ids, probabilities


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

    def _report_to_hp_search(self, trial, step: int, metrics: dict[str, float]) -> None:
        # Trials of other batch sizes are to be compared after as many hundredths of an epoch, not steps.
        super()._report_to_hp_search(trial, round(100 * self.state.epoch), metrics)

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


def clear_results(args: RecipeArguments) -> None:
    """Remove what an earlier run wrote: a folder tells of one run, never of two models' scores.

    A run that is resumed keeps the files of its best epoch so far.
    """
    kept = VALIDATION_FILES if args.resume_from_checkpoint else ()
    for name in (*RESULT_FILES, *(["README.md"] if args.do_train else [])):
        if name not in kept:
            Path(args.output_dir, name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not there, or with somebody's own files in it
        Path(args.output_dir, "figures").rmdir()


def evaluate_split(trainer: Trainer, role: str, split: Split, scorer: SplitScorer) -> None:
    """Score one split with the selected model and write its result file."""
    trainer.compute_metrics = scorer
    if role == "validation":
        scorer.metrics = trainer.evaluate()
    else:
        scorer.metrics = trainer.predict(split.windows, metric_key_prefix=role).metrics
    prefix = PREFIXES[role]
    scorer.facts[f"{role} loss"] = f"{scorer.metrics[f'{prefix}_loss']:.4f} (mean over labelled subtokens)"
    sure = intervals(scorer.evaluation)
    micro = sure["f1"]["micro"]
    scorer.facts["95 % interval"] = (
        f"micro F1 {micro['low']:.4f} to {micro['high']:.4f} ({sure['resamples']:,} bootstrap draws of "
        f"{sure['units']:,} {sure['unit']}{'; ' * bool(sure['note'])}{sure['note']})"
    )
    scorer.metrics |= flatten(scorer.evaluation.scores, f"{prefix}_") | flatten(
        sure["f1"], f"{prefix}_interval_"
    )
    trainer.save_metrics(prefix, scorer.metrics)


def serve_split(trainer: Trainer, model_args: ModelArguments, role: str, scorer: SplitScorer) -> None:
    """Score what `pipeline("ner")` answers with the saved (or the given) model; add it to the result file."""
    args = trainer.args
    place = {"model": args.output_dir}
    if not args.do_train:
        place = {
            "model": resolve_model(model_args.model_name_or_path),
            "revision": model_args.model_revision,
            "model_kwargs": {"cache_dir": model_args.cache_dir},
        }
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


def write_reports(
    args: RecipeArguments, scorers: dict[str, SplitScorer], show_mistakes: int, strategy: str | None
) -> None:
    """The files of each split, with what the pipeline serves where that was checked."""
    for role, scorer in scorers.items():
        write_split(args.output_dir, role, scorer.evaluation, scorer.facts, scorer.served, strategy)
        if show_mistakes:
            print(render_mistakes(scorer.evaluation, show_mistakes))


def finish(
    trainer: Trainer,
    scorers: dict[str, SplitScorer],
    record: dict,
    data_args: DataArguments,
    story: Story | None,
) -> None:
    """On the main process: reports, record, page, card, final screen; checkpoints of a finished run go."""
    args = trainer.args
    served = record["served"]
    strategy = served and served["strategy"]
    write_reports(args, scorers, data_args.show_mistakes, strategy)
    write_text(Path(args.output_dir) / "run.json", json.dumps(record, indent=2) + "\n")
    if story:
        end_story(story, trainer, scorers, record)
        if story.evaluations:
            write_page(args.output_dir, story, with_figures=True)
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
    """Push the finished folder, and say what of it stays at home."""
    url = publish_folder(
        args.output_dir,
        record["repository"],
        token=args.hub_token,
        private=args.hub_private_repo,
        revision=args.hub_revision,
    )
    kept = (
        f" (left here, since they hold the corpus's text: {', '.join(CORPUS_TEXT)})"
        if record["corpus"] == "custom"
        else ""
    )
    print(f"Published: {url}{kept}")


def prepare(
    roles: Sequence[str], model_args: ModelArguments, data_args: DataArguments, args: RecipeArguments
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, dict[str, Split]]:
    """Load what a training or an evaluation needs: a model, its tokenizer, and the splits as windows."""
    use_cores(args)
    tokenizer = load_tokenizer(model_args)
    splits = load_splits(roles, data_args, args, model_args.cache_dir)
    labels = label_names(next(iter(splits.values())).sentences)
    set_seed(args.seed)
    model = load_model(model_args, labels, fine_tune=args.do_train)
    fit_together(data_args, tokenizer, model)
    with args.main_process_first(desc="encoding"):
        for role, split in splits.items():
            encode_split(split, role, data_args, tokenizer)
    return model, tokenizer, splits


def run(
    model_args: ModelArguments, data_args: DataArguments, args: RecipeArguments, argv: Sequence[str]
) -> None:
    """One run: load, train, evaluate the splits in turn, serve, report, publish."""
    start = time.perf_counter()
    to_publish = prepare_publishing(args)
    needed = {
        "train": args.do_train,
        "validation": args.do_train or args.do_eval,
        "test": args.do_predict,
    }
    roles = [role for role, is_needed in needed.items() if is_needed]
    model, tokenizer, splits = prepare(roles, model_args, data_args, args)
    facts = run_facts(model_args, data_args, args, argv)
    trainer, scorers = build_trainer(model, tokenizer, splits, args, data_args, facts)
    story = begin_story(args.output_dir, splits, facts) if data_args.do_report_page else None
    if story and "validation" in scorers:
        trainer.add_callback(PageCallback(args.output_dir, scorers["validation"], story))
    if trainer.is_world_process_zero():
        print(*filter(None, [f"Precision: {args.precision_reason}", one_process_note(args)]), sep="\n")
        clear_results(args)
    if args.do_train:
        train(trainer, args, scorers)
        trainer.remove_callback(PageCallback)  # the page is written once more, when all is known
    wanted = {"validation": args.do_eval, "test": args.do_predict}
    scorers = {role: scorer for role, scorer in scorers.items() if wanted[role]}
    for role, scorer in scorers.items():
        evaluate_split(trainer, role, splits[role], scorer)
    if trainer.is_world_process_zero():
        for role, scorer in scorers.items() if data_args.do_serve_check else ():
            serve_split(trainer, model_args, role, scorer)
        served = {role: scorer.served for role, scorer in scorers.items() if scorer.served}
        record = run_record(model_args, data_args, trainer, splits, served, facts)
        record["seconds"] = round(time.perf_counter() - start, 1)
        finish(trainer, scorers, record, data_args, story)
        if to_publish:
            publish(args, record)
    trainer.end()


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    return exit_code(
        lambda: run(*parse_arguments(argv), argv),
        program="run_ner.py",
        when_interrupted="--resume_from_checkpoint goes on from the last checkpoint",
        debug="debug" in argv,
    )


def exit_code(work: Callable[[], None], program: str, when_interrupted: str, debug: bool) -> int:
    """Do the work of a program; whatever stops it is told in one message."""
    try:
        work()
    except (UsageError, CorpusError, AlignmentError, ServeError) as error:
        return report_error(program, str(error), 2)
    except PublishError as error:
        return report_error(program, f"--push_to_hub: {error}", 1)
    except KeyboardInterrupt:
        return report_error(program, f"interrupted; {when_interrupted}", 130)
    except Exception as error:  # what no check foresaw, most often a setting: still one message
        if debug:
            raise
        reason = " ".join(str(error).split())[:500]
        message = f"{type(error).__name__}: {reason} (the traceback: --log_level debug)"
        return report_error(program, message, 1)
    return 0


def report_error(program: str, message: str, code: int) -> int:
    """Print a message once, whatever the number of processes; returns the exit code."""
    if int(os.environ.get("LOCAL_RANK", 0)) <= 0:
        print(f"{program}: error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
