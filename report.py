"""What a person looks at: classification reports, mistakes, predictions, and the callback that writes them.

Rendering functions take values and return text; only `write_split` and the callback write files. run_ner.py
hands the callback a folder and the scorer of the validation split. Imports errors and metrics.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from errors import render_kinds
from metrics import AVERAGES, Evaluation, format_predictions

SERVED_FORMS = ("sentences", "abstracts")
REPORT_FILES = {"validation": "classification_report.txt", "test": "classification_report_test.txt"}
PAGE = "report.html"
FIGURES = (
    *("training_curves", "type_scores", "span_confusion", "word_confusion", "f1_by_entity_length"),
    *("f1_by_sentence_length", "f1_by_seen", "label_distribution"),
)
RESULT_FILES = (
    PAGE,
    *(f"figures/{name}.{kind}" for name in FIGURES for kind in ("png", "svg")),
    *("run.json", "all_results.json", "train_results.json", "eval_results.json", "test_results.json"),
    *("classification_report.txt", "classification_report_test.txt", "trainer_state.json"),
    *("predictions_validation.tsv", "predictions_test.tsv", "mistakes_validation.txt", "mistakes_test.txt"),
)
VALIDATION_FILES = (
    PAGE,
    "classification_report.txt",
    "predictions_validation.tsv",
    "mistakes_validation.txt",
)
OTHER_READINGS = {
    "span_strict": "strict IOB2 (an entity begins with B-)",
    "left_boundary": "left boundary and type",
    "right_boundary": "right boundary and type",
    "untyped": "both boundaries, any type",
}


class Scorer(Protocol):
    """What the callback needs of run_ner's SplitScorer."""

    evaluation: Evaluation | None
    facts: dict[str, str]
    served: dict | None


class ReportCallback(TrainerCallback):
    """Writes the validation files each time the score that selects the model improves."""

    def __init__(self, output_dir: str, scorer: Scorer, show_mistakes: int = 0):
        self.output_dir = output_dir
        self.scorer = scorer
        self.show_mistakes = show_mistakes

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs):
        # A log at each evaluation: then the training loss beside a score is that of the steps since the last
        # one, and a run that is resumed from a checkpoint logs the same numbers as one that was never
        # stopped.
        control.should_log |= control.should_evaluate
        return control

    on_epoch_end = on_step_end

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: dict, **kwargs
    ):
        if (
            not state.is_world_process_zero
            or self.scorer.evaluation is None
            or not improves(args, state, metrics)
        ):
            return
        facts = {**self.scorer.facts, **training_facts(args, state.log_history)}
        write_split(self.output_dir, "validation", self.scorer.evaluation, facts)
        if self.show_mistakes:
            print(render_mistakes(self.scorer.evaluation, self.show_mistakes))


def improves(args: TrainingArguments, state: TrainerState, metrics: Mapping[str, float]) -> bool:
    """Whether this evaluation's model is the one to keep, by the rule that Trainer applies just after.

    Where the best model is not restored at the end, the latest is kept.
    """
    if not args.load_best_model_at_end or state.best_metric is None:
        return True
    value = metrics["eval_" + args.metric_for_best_model.removeprefix("eval_")]
    return value > state.best_metric if args.greater_is_better else value < state.best_metric


def training_facts(args: TrainingArguments, history: Sequence[Mapping[str, float]]) -> dict[str, str]:
    """Epoch and losses of the evaluation that ends a log history; only its loss if nothing was trained."""
    evaluation = history[-1]
    facts = {}
    if evaluation["step"]:
        loss = training_loss(history)
        kept = f"best epoch by {args.metric_for_best_model}" if args.load_best_model_at_end else "epoch"
        facts[kept] = f"{evaluation['epoch']:g} (step {evaluation['step']:,})"
        facts["training loss"] = (
            "not logged" if loss is None else f"{loss:.4f} (mean since the evaluation before)"
        )
    facts["validation loss"] = f"{evaluation['eval_loss']:.4f} (mean over labelled subtokens)"
    return facts


def kept_history(args: TrainingArguments, state: TrainerState) -> list[dict[str, float]]:
    """The log history up to the evaluation of the model that was kept; empty if none was evaluated."""
    step = state.best_global_step if args.load_best_model_at_end else state.global_step
    for end, entry in enumerate(state.log_history, start=1):
        if "eval_loss" in entry and entry["step"] == step:
            return state.log_history[:end]
    return []


def training_loss(history: Sequence[Mapping[str, float]]) -> float | None:
    """Mean training loss a step since the last evaluation but one; None if nothing was logged."""
    total = steps = logged = 0
    for entry in history[:-1]:
        if "eval_loss" in entry:
            total = steps = 0
        if "loss" in entry:
            total += entry["loss"] * (entry["step"] - logged)
            steps += entry["step"] - logged
            logged = entry["step"]
    return total / steps if steps else None


def write_split(
    output_dir: str | Path,
    split: str,
    evaluation: Evaluation,
    facts: Mapping[str, str],
    served: Mapping | None = None,
    strategy: str | None = None,
) -> None:
    """Write the report, predictions and mistakes of one split (`validation` or `test`).

    `served` is what served.serve_check returned, `strategy` the one to recommend.
    """
    report = render_report(split, evaluation.scores, facts) + "\n" + render_kinds(evaluation)
    if served:
        report += render_served(served, evaluation.scores["span"]["micro"]["f1"], strategy)
    for path, text in (
        (REPORT_FILES[split], report),
        (f"predictions_{split}.tsv", format_predictions(evaluation)),
        (f"mistakes_{split}.txt", render_mistakes(evaluation)),
    ):
        write_text(Path(output_dir) / path, text)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, so that a run cut off leaves the earlier report readable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def render_report(split: str, scores: dict, facts: Mapping[str, str]) -> str:
    """The classification report of one split as text."""
    facts = {"gold entities": f"{scores['entities']:,}", "gold words": f"{scores['words']:,}", **facts}
    width = max(map(len, facts))
    return "\n".join(
        [
            f"Classification report: {split}",
            "",
            *(f"{name:<{width}}  {value}" for name, value in facts.items()),
            "",
            "Entities (span level; type and both boundaries match; an I- without a B- begins an entity)",
            "",
            *table(scores["span"]),
            "",
            "Other readings of an entity (micro average)",
            "",
            *table({name: scores[key]["micro"] for key, name in OTHER_READINGS.items()}),
            "",
            "Words (one tag a word, that of its first subtoken; O is left out of the averages)",
            "",
            *table(scores["word"]),
            "",
            f"accuracy over all {scores['words']:,} words, O included: {scores['accuracy']:.4f}",
            "",
        ]
    )


def render_served(served: Mapping, reported: float, strategy: str | None) -> str:
    """What `pipeline("ner")` answers, beside the F1 that the report gives for the same split."""
    lines = [
        "",
        'Served by pipeline("ner") on plain text (micro average; type and both ends agree to the character)',
        "",
        f"{'':<9}  strategy   precision  recall      f1  minus reported",
    ]
    for form in SERVED_FORMS:
        for name, row in served[form].items():
            if isinstance(row, Mapping):
                numbers = f"{row['precision']:9.4f}  {row['recall']:.4f}  {row['f1']:.4f}"
                mark = "  recommended" if name == strategy else ""
                lines.append(f"{form:<9}  {name:<9}  {numbers}  {row['f1'] - reported:+14.4f}{mark}")
    long, texts = served["abstracts"]["too_long"], served["abstracts"]["texts"]
    return "\n".join(
        [
            *lines,
            "",
            f"stride={served['stride']}; {long:,} of {texts:,} abstracts are longer than the model's "
            f"{served['max_length']} subtokens: none, which takes no stride, loses their ends",
            "",
        ]
    )


def averages_last(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    return [name for name in rows if name not in AVERAGES] + [name for name in AVERAGES if name in rows]


def table(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Lines of an aligned table of scores, averages last."""
    order = averages_last(rows)
    names = {name: f"{name} average" if name in AVERAGES else name for name in order}
    width = max(map(len, names.values()))
    lines = [f"{'':<{width}}  precision  recall      f1  support"]
    for name in order:
        row = rows[name]
        numbers = f"{row['precision']:9.4f}  {row['recall']:.4f}  {row['f1']:.4f}  {row['support']:7,}"
        lines.append(f"{names[name]:<{width}}  {numbers}")
    return lines


def render_mistakes(evaluation: Evaluation, limit: int | None = None) -> str:
    """Each sentence with an error (at most `limit`) as an aligned TOKEN / LABEL / PRED table."""
    sentences = list(zip(evaluation.words, evaluation.gold, evaluation.predicted, strict=True))
    wrong = [
        (number, *columns) for number, columns in enumerate(sentences, start=1) if columns[1] != columns[2]
    ]
    shown = wrong if limit is None else wrong[:limit]
    lines = [f"{len(wrong):,} of {len(sentences):,} sentences have an error; {len(shown):,} shown", ""]
    for number, words, gold, predicted in shown:
        widths = [max(map(len, column)) for column in (["TOKEN", *words], ["LABEL", *gold])]
        lines.append(f"sentence {number}")
        for word, label, guess in [("TOKEN", "LABEL", "PRED"), *zip(words, gold, predicted, strict=True)]:
            mark = "  <--" if label != guess and (label, guess) != ("LABEL", "PRED") else ""
            lines.append(f"{word:<{widths[0]}}  {label:<{widths[1]}}  {guess}{mark}")
        lines.append("")
    return "\n".join(lines) + "\n"


def render_summary(evaluations: Mapping[str, Evaluation], output_dir: str) -> str:
    """The final screen: one line of scores a split, and the files of the output folder."""
    header = f"{'':<10}  precision  recall      f1  macro f1  strict f1  word f1  accuracy  gold entities"
    lines = ["", "Scores (span level, micro, unless said)", header]
    for split, evaluation in evaluations.items():
        scores = evaluation.scores
        micro = scores["span"]["micro"]
        numbers = (
            f"{micro['precision']:9.4f}  {micro['recall']:.4f}  {micro['f1']:.4f}  "
            f"{scores['span']['macro']['f1']:8.4f}  {scores['span_strict']['micro']['f1']:9.4f}  "
            f"{scores['word']['micro']['f1']:7.4f}  {scores['accuracy']:8.4f}  {scores['entities']:13,}"
        )
        lines.append(f"{split:<10}  {numbers}")
    files = sorted(path.name for path in Path(output_dir).iterdir() if path.is_file())
    return "\n".join([*lines, "", f"Written to {output_dir}", *(f"  {name}" for name in files)])
