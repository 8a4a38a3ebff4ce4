"""Training and evaluation: what is loaded for them, the loss, the Trainer, and the scoring of one split.

model, tokenizer, splits = prepare(["train", "validation"], model_args, data_args, args)
trainer, scorers = build_trainer(model, tokenizer, splits, args, facts)
"""

import contextlib
import dataclasses
import itertools
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import datasets
import numpy as np
import torch
from accelerate.utils import release_memory
from transformers import (
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.modeling_outputs import TokenClassifierOutput
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput, IntervalStrategy, TrainOutput

from jnlpba_dataset import OWNED, WordValues, column, decode, gather
from metrics import flatten
from ner_recipe.arguments import SELECTION_METRIC, DataArguments, ModelArguments, RecipeArguments
from ner_recipe.averaging import WeightAverage
from ner_recipe.batching import (
    TEACHER,
    LikeLengthBatches,
    RoundedPadding,
    encode_split,
    numbers,
    padded_lengths,
    presentations,
)
from ner_recipe.checkpoints import SETTINGS_FILE, began_with, last_checkpoint, whole_or_none
from ner_recipe.corpora.building import document_numbers, label_names
from ner_recipe.corpora.leakage import corpus_notes, refuse_bad_splits, with_silver_facts
from ner_recipe.corpora.splits import Split, load_splits, with_labels
from ner_recipe.decoding import best_min_score, first_subtokens, joint_decoding, leave_out
from ner_recipe.distillation import checksum, find_teachers, load_teachers, teacher_loss, with_teachers
from ner_recipe.interruption import save_at_signal
from ner_recipe.launch import MemoryShortError, UsageError, enough_memory, use_cores
from ner_recipe.models import (
    agreed_labels,
    fit_together,
    load_model,
    load_tokenizer,
    min_score_of,
    reads_all_tokens,
)
from ner_recipe.reports.card import write_model_card
from ner_recipe.reports.files import follow_umask, write_text
from ner_recipe.reports.history import kept_history, loss_text, mean_loss, training_facts
from ner_recipe.reports.record import unusual_protocol
from ner_recipe.reports.result import SplitResult, make_result, with_facts
from ner_recipe.reports.text import served_forms
from ner_recipe.serving import longest_text
from ner_recipe.vocabulary import split_words, with_words

SILVER = "silver text"  # among the fingerprints that a checkpoint holds
PREFIXES = {"validation": "eval", "test": "test"}  # in the names of Trainer's metrics and result files


def prepare(
    roles: Sequence[str], model_args: ModelArguments, data_args: DataArguments, args: RecipeArguments
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, dict[str, Split]]:
    """Load the model, its tokenizer, and the splits as windows."""
    use_cores(args.device)
    tokenizer = load_tokenizer(model_args)
    if data_args.do_serve_check and not args.do_train:  # it serves the tokenizer as it is
        longest_text(tokenizer, model_args.model_name_or_path)
    find_teachers(model_args.teacher_name_or_path or [], model_args.cache_dir)
    splits = load_splits(roles, data_args, args, model_args.cache_dir)
    refuse_bad_splits(splits)
    splits = with_silver_facts(splits)
    if args.process_index == 0:
        print(*(f"{note}\n" for note in corpus_notes(splits)), sep="", end="", file=sys.stderr)
    labels = label_names(next(iter(splits.values())).sentences)
    labels = agreed_labels(model_args, labels, args.do_train)
    splits = {role: with_labels(split, labels) for role, split in splits.items()}
    if args.do_train and model_args.add_tokens_min_count:
        texts = column(splits["train"].with_silver, "tokens")
        words = split_words(tokenizer, texts, model_args.add_tokens_min_count)
        tokenizer = with_words(tokenizer, words)
        if args.process_index == 0:
            print(f"Vocabulary: {len(words):,} words of the training text added", file=sys.stderr)
    set_seed(args.seed)
    model = load_model(model_args, labels, args.do_train, args.cpu_attention, tokenizer)
    if data_args.label_all_tokens is None:
        data_args.label_all_tokens = args.do_train or reads_all_tokens(model.config)
    if args.do_train:
        model.config.label_all_tokens = data_args.label_all_tokens  # the Annotator must know
    if data_args.min_score is None and unusual_protocol(data_args, args.do_train):
        data_args.min_score = 0.0  # it is not chosen on what the model was trained on, nor on test
    if data_args.min_score is not None:
        model.config.min_score = data_args.min_score
    fit_together(data_args, tokenizer, model)
    with args.main_process_first(desc="encoding"):
        splits = encode_splits(splits, tokenizer, model_args, data_args, args)
    return model, tokenizer, splits


def encode_splits(
    splits: Mapping[str, Split],
    tokenizer: PreTrainedTokenizerBase,
    model_args: ModelArguments,
    data_args: DataArguments,
    args: RecipeArguments,
) -> dict[str, Split]:
    """The splits as windows; those to train on hold the teachers' probabilities, if there are teachers."""
    teachers = []
    if "train" in splits and model_args.teacher_name_or_path:
        teachers = load_teachers(
            model_args.teacher_name_or_path,
            label_names(splits["train"].sentences),
            tokenizer,
            data_args.label_all_tokens,
            args.device,
            torch.bfloat16 if args.mixed_precision == "bf16" else torch.float32,
            model_args.cache_dir,
        )
    encoded = {
        role: encode_split(split, role, data_args, tokenizer, model_args.cache_dir)
        for role, split in splits.items()
    }
    if teachers:
        taught_by = checksum(teachers)
        windows = with_teachers(encoded["train"].windows, teachers, tokenizer, taught_by)
        encoded["train"] = dataclasses.replace(encoded["train"], windows=windows, taught_by=taught_by)
    return encoded


def token_loss(
    outputs: TokenClassifierOutput,
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Cross entropy summed over labelled subtokens, divided by their number in the whole accumulated batch.

    BERT's own loss averages each micro-batch and ignores that number, while Trainer assumes that it was used:
    8 x 4 would then train with four times the gradient of 32 x 1.
    """
    logits = outputs.logits.float().flatten(0, 1)  # (batch * tokens, labels)
    total = torch.nn.functional.cross_entropy(
        logits, labels.flatten(), ignore_index=-100, reduction="sum", label_smoothing=label_smoothing
    )
    return total / (num_items_in_batch if num_items_in_batch is not None else labels.ne(-100).sum())


def row_losses(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Cross entropy summed over the labelled subtokens of each row: (batch, tokens, labels) -> (batch,)."""
    losses = torch.nn.functional.cross_entropy(
        logits.float().transpose(1, 2),
        labels,
        ignore_index=-100,
        reduction="none",
        label_smoothing=label_smoothing,
    )
    return losses.sum(dim=1)


class LogAtSave(TrainerCallback):
    """Logs the loss at each checkpoint. A resumed run does not know that of the steps before it."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        if control.should_save and args.logging_strategy != IntervalStrategy.NO:
            control.should_log = True
        return control

    on_epoch_end = on_step_end


class DivergenceError(UsageError):
    """A training whose loss or gradient is not a finite number."""

    exit_code = 1


class NerTrainer(Trainer):
    """Trainer with the recipe's loss, batches of like length, and evaluations in the order of the rows.

    A loss or a gradient that is not finite ends the training with a `divergence`. Trainer would log it as 0,
    and save a model of NaN. `--logging_nan_inf_filter false` lets the training go on. A batch that the memory
    does not suffice for ends it with an `exhaustion`.
    """

    divergence: type[Exception] = DivergenceError
    exhaustion: type[Exception] = MemoryShortError

    def __init__(self, **options):
        self.batches: LikeLengthBatches | None = None  # those of the training
        self.teacher: torch.Tensor | None = None  # of the batch, (batch, tokens, labels)
        super().__init__(
            compute_loss_func=self.batch_loss, preprocess_logits_for_metrics=self.reduce_logits, **options
        )
        self.corpus: dict[str, str] = {}  # fingerprints by role
        self.average = WeightAverage()
        self.add_callback(self.average)
        self.add_callback(LogAtSave())

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if TEACHER not in self._signature_columns:  # Trainer drops the columns that no model takes
            self._signature_columns = [*self._signature_columns, TEACHER]

    def compute_loss(self, model, inputs, *arguments, **options) -> torch.Tensor:
        self.teacher = inputs.pop(TEACHER, None)  # not for the model
        return super().compute_loss(model, inputs, *arguments, **options)

    def batch_loss(self, outputs, labels, num_items_in_batch=None) -> torch.Tensor:
        loss = token_loss(outputs, labels, num_items_in_batch, self.args.label_smoothing_factor)
        if self.teacher is None:
            return loss
        count = num_items_in_batch if num_items_in_batch is not None else labels.ne(-100).sum()
        weight = self.args.distillation_weight
        return (1 - weight) * loss + weight * teacher_loss(outputs.logits, self.teacher, count)

    def reduce_logits(self, logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What an evaluation keeps of logits (batch, tokens, labels), reduced on the device.

        Returns:
            Log-probabilities (batch, tokens, labels), and the summed loss of each row, (batch,). Rows can be
            added up over processes; Trainer's own loss is a mean that can't.
        """
        losses = row_losses(logits, labels, self.args.label_smoothing_factor)
        return logits.float().log_softmax(dim=-1), losses

    def _get_train_sampler(self, train_dataset: datasets.Dataset | None = None) -> torch.utils.data.Sampler:
        args = self.args
        if args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        seed = args.seed if args.data_seed is None else args.data_seed
        size = (
            {"tokens": args.train_batch_tokens}
            if args.train_batch_tokens
            else {"rows": self._train_batch_size}
        )
        self.batches = LikeLengthBatches(
            padded_lengths(numbers(self.train_dataset, "length"), self.processing_class.model_max_length),
            seed,
            presentations(self.train_dataset, seed),
            accumulate=args.gradient_accumulation_steps,
            processes=args.world_size,
            process=args.process_index,
            **size,
        )
        return self.batches

    def train(self, *arguments, **options) -> TrainOutput:
        flags = "--train_batch_tokens, --per_device_train_batch_size or --max_seq_length"
        with enough_memory(flags, self.exhaustion):
            return super().train(*arguments, **options)

    def evaluation_loop(self, *arguments, **options) -> EvalLoopOutput:
        with enough_memory("--per_device_eval_batch_size", self.exhaustion):
            return super().evaluation_loop(*arguments, **options)

    def _run_epoch(self, *, epoch: int, **options) -> None:
        if self.state.global_step >= self.state.max_steps:  # resumed after the last step of all
            self.control.should_training_stop = True
            return
        # Resumed within an epoch by several processes, accelerate would not tell the batches which one it is.
        if self.batches is not None:
            self.batches.set_epoch(epoch)
        super()._run_epoch(epoch=epoch, **options)

    def training_step(self, *arguments, **options) -> torch.Tensor:
        loss = super().training_step(*arguments, **options)
        self.refuse_divergence("loss", loss)
        return loss

    def _get_grad_norm(self, *arguments, **options) -> torch.Tensor | float:
        norm = super()._get_grad_norm(*arguments, **options)
        if self.accelerator.scaler is None:  # that of fp16 skips a step with such a gradient, and goes on
            self.refuse_divergence("gradient norm", norm)
        return norm

    def refuse_divergence(self, name: str, value: torch.Tensor | float) -> None:
        """Raise `divergence` if a number of this step is not finite."""
        if not self.args.logging_nan_inf_filter or math.isfinite(value):
            return
        last = last_checkpoint(self.args.output_dir)
        kept = f"{last} holds the last good model; use another --output_dir" if last else "No model was saved"
        raise self.divergence(
            f"--learning_rate: the {name} is {float(value)} at step {self.state.global_step + 1} of "
            f"{self.state.max_steps} (rate {self._get_learning_rate():.3g}); use a lower rate or more "
            f"--warmup_steps. {kept}"
        )

    def evaluate(self, *arguments, **options) -> dict[str, float]:
        with self.average.applied():
            return super().evaluate(*arguments, **options)

    def _save(self, output_dir: str | None = None, *arguments, **options) -> None:
        super()._save(output_dir, *arguments, **options)
        follow_umask(output_dir or self.args.output_dir, "*.safetensors")

    def _save_checkpoint(self, *arguments, **options) -> None:
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        # The weights, two moments of each for the optimizer, and the weights without averaging.
        copies = 4 if self.args.ema_decay else 3
        place = (self.args.output_dir, name, copies * self.model_bytes(), writer_number(self.args))
        with self.average.applied(), whole_or_none(*place):
            super()._save_checkpoint(*arguments, **options)

    def model_bytes(self) -> int:
        """The size of the model's weights."""
        return sum(weight.numel() * weight.element_size() for weight in self.model.parameters())

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            self.average.save(output_dir)
            follow_umask(output_dir, "*.safetensors")
            began = {"settings": self.args.deciding, "corpus": self.corpus}
            write_text(Path(output_dir, SETTINGS_FILE), json.dumps(began, indent=1) + "\n")

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and self.args.ema_decay:
            # In a second attempt, after the memory did not suffice, the model no longer has the average.
            self._load_from_checkpoint(checkpoint)
            self.average.resume(checkpoint, self.model)

    def num_examples(self, dataloader: torch.utils.data.DataLoader) -> int:
        """The windows that an epoch shows, from which Trainer computes samples per second."""
        batches = getattr(dataloader.batch_sampler, "batch_sampler", dataloader.batch_sampler)
        if batches is not self.batches or self.batches is None:
            return super().num_examples(dataloader)
        return round(np.mean([len(windows) for windows in self.batches.shown]))

    def _get_eval_sampler(self, eval_dataset: datasets.Dataset):
        # Trainer's own sampler would group by length too, and prediction i would not belong to row i.
        return torch.utils.data.SequentialSampler(eval_dataset)

    def _report_to_hp_search(self, trial, step: int, metrics: Mapping[str, float]) -> None:
        # Trials with different batch sizes are compared by hundredths of an epoch, not by steps.
        super()._report_to_hp_search(trial, round(100 * self.state.epoch), metrics)

    def create_model_card(self, **options) -> None:
        """Write the recipe's card, where Trainer.push_to_hub would write its own draft."""
        if self.is_world_process_zero():
            write_model_card(self.args.output_dir)


class SplitScorer:
    """Trainer's compute_metrics for one split: probabilities of windows -> tags of words -> scores.

    `result` is that of the last evaluation. Gold goes back from windows to words through the same function as
    the prediction and must equal the corpus, so no batching or sharding can silently drop, repeat or reorder
    a word. Joint decoding leaves out entities with a score below `min_score`; None: below the one that is
    best here.
    """

    def __init__(self, split: Split, facts: Mapping[str, str], min_score: float | None = None):
        self.split, self.min_score = split, min_score
        self.facts = {**facts, **split_facts(split)}
        self.owned = {name: list(column(split.windows, name)) for name in OWNED}
        self.result: SplitResult | None = None

    def __call__(self, output: EvalPrediction) -> dict[str, float]:
        sentences = self.split.sentences
        names = np.array(label_names(sentences))
        log_probabilities, losses = output.predictions
        gold = decode(self.owned, output.label_ids)
        if gold != list(column(sentences, "ner_tags")):
            raise RuntimeError("the words that came back from the model are not those of the corpus")
        words = gather(self.owned, log_probabilities)
        joint_ids, min_score = self.decode_jointly(words, gold, names.tolist())
        first_ids, probabilities = first_subtokens(words)
        texts, gold = list(column(sentences, "tokens")), [names[tags].tolist() for tags in gold]
        documents = document_numbers(sentences)
        spaces = list(column(sentences, "spaces")) if "spaces" in sentences.column_names else None
        plain, joint = (
            make_result(
                texts,
                gold,
                words.by_sentence(names[ids]),
                documents=documents,
                spaces=spaces,
                facts=self.facts,
                **more,
            )
            for ids, more in (
                (first_ids, {"confidence": words.by_sentence(probabilities)}),
                (joint_ids, {"min_score": min_score}),
            )
        )
        self.result = dataclasses.replace(plain, joint=joint)
        loss = float(losses.sum(dtype=np.float64) / np.not_equal(output.label_ids, -100).sum())
        return {"loss": loss, **logged_scores(self.result)}

    def decode_jointly(
        self, words: WordValues, gold: Sequence[Sequence[int]], names: Sequence[str]
    ) -> tuple[np.ndarray, float]:
        """The label ids of joint decoding, and the min_score that was applied."""
        ids, found = joint_decoding(words, names)
        min_score = self.min_score
        if min_score is None:
            flat = np.fromiter(itertools.chain.from_iterable(gold), np.int64)
            min_score = best_min_score(ids, found, flat, names)
        return leave_out(ids, found, min_score, names), min_score


def split_facts(split: Split) -> dict[str, str]:
    """The facts about one split that its report states."""
    used, windows = len(split.sentences), len(split.windows)
    cut = int(numbers(split.windows, "cut_words").sum())
    facts = {
        "sentences": f"{used:,} of {split.total:,}, in {windows:,} windows",
        "corpus fingerprint": split.counts["fingerprint"],
        **split.facts,
    }
    if split.counts["documents"] is None:
        facts["documents"] = "unknown, so no abstracts are served and intervals draw sentences"
    if cut:
        facts["cut words"] = f"{cut:,} with more subtokens than a window holds, scored by their first"
    return facts


def logged_scores(result: SplitResult) -> dict[str, float]:
    """The few scores that are logged at each evaluation. The result files hold all of them."""
    scores = result.scores
    micro = scores["span"]["micro"]
    return {
        "precision": micro["precision"],
        "recall": micro["recall"],
        SELECTION_METRIC: micro["f1"],
        "joint_f1": result.joint.scores["span"]["micro"]["f1"],
        "macro_f1": scores["span"]["macro"]["f1"],
        "word_f1": scores["word"]["micro"]["f1"],
        "accuracy": scores["accuracy"],
        "entities": scores["entities"],
    }


def build_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    splits: Mapping[str, Split],
    args: RecipeArguments,
    facts: Mapping[str, str],
) -> tuple[NerTrainer, dict[str, SplitScorer]]:
    """The Trainer, and a scorer for each split that is evaluated."""
    known = min_score_of(model.config)
    chosen_here = args.do_train and known is None
    scorers = {
        role: SplitScorer(split, facts, None if chosen_here and role == "validation" else known or 0.0)
        for role, split in splits.items()
        if role != "train"
    }
    try:
        trainer = NerTrainer(
            model=model,
            args=args,
            train_dataset=splits["train"].windows if "train" in splits else None,
            eval_dataset=splits["validation"].windows if "validation" in splits else None,
            processing_class=tokenizer,
            data_collator=RoundedPadding(tokenizer),
            compute_metrics=scorers.get("validation"),
        )
    except (ValueError, RuntimeError, ImportError) as error:  # a setting or a logger that is not available
        raise UsageError(" ".join(str(error).split())) from error
    trainer.corpus = {role: split.counts["fingerprint"] for role, split in splits.items() if role != "test"}
    if "train" in splits:
        if silver := splits["train"].silver:
            trainer.corpus[SILVER] = silver.counts["fingerprint"]
        if splits["train"].taught_by:
            trainer.corpus[TEACHER] = splits["train"].taught_by
        trainer._get_train_sampler()  # refuses impossible batches before anything is written
    return trainer, scorers


def train(trainer: NerTrainer) -> None:
    """Train, restore the best epoch, and save the model, the tokenizer and Trainer's state.

    Raises:
        Interrupted: a signal arrived; a checkpoint was saved.
    """
    args = trainer.args
    if args.resume_from_checkpoint:
        refuse_another_corpus(Path(args.resume_from_checkpoint), trainer.corpus)
    with save_at_signal(trainer), noting_the_step(trainer):
        result = trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    with whole_or_none(args.output_dir, "model.safetensors", trainer.model_bytes(), writer_number(args)):
        trainer.save_model()
    if trainer.is_world_process_zero():
        # A pickle of the arguments is of no use to others, and nobody should load one.
        Path(args.output_dir, "training_args.bin").unlink(missing_ok=True)
    if (loss := mean_loss(trainer.state.log_history)) is not None:
        # Trainer's own leaves out the steps before a resumption.
        result.metrics["train_loss"] = trainer.state.log_history[-1]["train_loss"] = loss
    trainer.log_metrics("train", result.metrics)
    trainer.save_metrics("train", result.metrics)
    trainer.save_state()
    release_optimizer(trainer)


def release_optimizer(trainer: Trainer) -> None:
    """Free the optimizer's moments, twice the memory of the weights, which no evaluation needs."""
    for holder in (trainer, trainer.callback_handler):
        holder.optimizer = holder.lr_scheduler = None
    trainer.accelerator._optimizers.clear()
    release_memory()  # the schedule and the optimizer refer to each other


def writer_number(args: TrainingArguments) -> int:
    """0 for the process that writes the model, on each machine with --save_on_each_node."""
    return 0 if args.should_save else args.process_index


@contextlib.contextmanager
def noting_the_step(trainer: Trainer) -> Iterator[None]:
    """Add to an error of torch after which step it came."""
    try:
        yield
    except RuntimeError as error:
        error.add_note(f"after step {trainer.state.global_step}")
        raise


def refuse_another_corpus(checkpoint: Path, corpus: Mapping[str, str]) -> None:
    """Refuse to go on from a checkpoint with sentences or tags that it was not trained or selected on."""
    began = began_with(checkpoint, "corpus")
    for role in dict.fromkeys((*corpus, SILVER)):
        content = corpus.get(role)
        if began.get(role) != content:
            what = {SILVER: "text of --silver_train_file", TEACHER: TEACHER}.get(role, f"{role} split")
            raise UsageError(
                f"--resume_from_checkpoint: {checkpoint} began with another {what} (fingerprint "
                f"{began.get(role)}, now {content}); restore it, or start anew in another --output_dir"
            )


def evaluate(trainer: NerTrainer, scorers: Mapping[str, SplitScorer]) -> dict[str, SplitResult]:
    """Score the splits that were asked for with the selected model, validation first, and save the scores."""
    args = trainer.args
    wanted = {"validation": args.do_eval, "test": args.do_predict}
    facts = training_facts(args, kept_history(args, trainer.state))
    results = {}
    for role, scorer in scorers.items():
        if wanted[role]:
            results[role] = evaluate_split(trainer, role, scorer, facts)
            save_result(trainer, role, results[role])
            if scorer.min_score is None:
                keep_min_score(trainer, scorers, results[role].joint.min_score)
    return results


def keep_min_score(trainer: NerTrainer, scorers: Mapping[str, SplitScorer], min_score: float) -> None:
    """Write the min_score that validation chose into config.json of the trained model; test is read by it."""
    trainer.model.config.min_score = min_score
    if trainer.args.should_save:
        path = Path(trainer.args.output_dir, "config.json")
        saved = json.loads(path.read_text()) | {"min_score": min_score}
        write_text(path, json.dumps(saved, indent=2, sort_keys=True) + "\n")  # whole or not at all
    if "test" in scorers:
        scorers["test"].min_score = min_score


def evaluate_split(
    trainer: NerTrainer, role: str, scorer: SplitScorer, facts: Mapping[str, str]
) -> SplitResult:
    """Score one split with the selected model. `facts` are about the training."""
    trainer.compute_metrics = scorer
    if role == "validation":
        metrics = trainer.evaluate()
    else:
        metrics = trainer.predict(scorer.split.windows, metric_key_prefix=role).metrics
    loss = {f"{role} loss": loss_text(metrics[f"{PREFIXES[role]}_loss"])}
    return dataclasses.replace(with_facts(scorer.result, {**facts, **loss}), metrics=metrics)


def save_result(trainer: NerTrainer, role: str, result: SplitResult) -> None:
    """Write every score of one split to its result file and to all_results.json."""
    prefix = PREFIXES[role]
    served = {name: value for name, value in (result.served or {}).items() if not isinstance(value, dict)}
    for form in served_forms(result.served or {}):
        row = result.served[form]
        served[form] = {"texts": row["texts"], "too_long": row["too_long"], **row["scores"]}
    joint = {
        **result.joint.scores,
        "min_score": result.joint.min_score,
        "interval": result.joint.intervals["f1"],
    }
    scores = {**result.scores, "interval": result.intervals["f1"], "joint": joint, "served": served}
    trainer.save_metrics(prefix, {**result.metrics, **flatten(scores, f"{prefix}_")})
