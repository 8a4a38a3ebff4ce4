"""The figures of a run, for papers, the card and the page: values -> matplotlib figures -> PNG and SVG.

    figures = draw(result, history, best_step, labels, seen); save(figures, folder)

The text stays legible in one column of print.
"""

import io
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ner_recipe.reports.error_analysis import (
    by_entity_length,
    by_seen,
    by_sentence_length,
    span_confusion,
    word_confusion,
)
from ner_recipe.reports.files import write_bytes, write_text
from ner_recipe.reports.history import History
from ner_recipe.reports.result import SplitResult

# Okabe and Ito's colours for the colour-blind, without the yellow that is hard to see on paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
BLUE, ORANGE, GREEN = COLOURS[:3]
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ner",
    "font.size": 10,
    "axes.grid": False,
    "text.parse_math": False,
}


def training_curves(history: History, best_step: int | None) -> Figure:
    """Loss, validation F1 and learning rate by step, with the best evaluation marked."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    loss, score, rate = figure.subplots(1, 3)
    line(loss, history, "loss", BLUE, "training")
    line(loss, history, "eval_loss", ORANGE, "validation", marker="o")
    loss.set_title("Loss")
    loss.legend(fontsize="small")
    line(score, history, "eval_f1", BLUE, "entities", marker="o")
    line(score, history, "eval_word_f1", GREEN, "words", marker="s")
    score.set_title("F1 on validation")
    score.legend(fontsize="small", loc="lower right")
    line(rate, history, "learning_rate", BLUE, "learning rate")
    rate.set_title("Learning rate")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    for axes in (loss, score, rate):
        axes.set_xlabel("step")
        axes.grid(alpha=0.25)
        if best_step:
            axes.axvline(best_step, color="0.4", linestyle=":", linewidth=1)
    return figure


def line(axes: Axes, history: History, name: str, colour: str, label: str, marker: str = "") -> None:
    points: dict[int, float] = {}
    for entry in history:
        if name in entry:  # the evaluation of the restored model comes second at the last step
            points.setdefault(entry["step"], entry[name])
    if points:
        axes.plot(*zip(*points.items(), strict=True), color=colour, label=label, marker=marker, markersize=4)


def type_scores(f1: Mapping[str, Mapping[str, float]], unit: str) -> Figure:
    """F1 of each type and average, with its 95 % interval."""
    names = list(f1)
    values = np.array([f1[name]["value"] for name in names])
    ends = np.array([[f1[name]["low"], f1[name]["high"]] for name in names])
    errors = np.abs(np.vstack([values - ends[:, 0], ends[:, 1] - values]))
    figure = Figure(figsize=(5.5, 0.6 + 0.42 * len(names)), layout="constrained")
    axes = figure.subplots()
    colours = [ORANGE if name in ("micro", "macro") else BLUE for name in names]
    axes.barh(names, values, color=colours, height=0.62, alpha=0.85)
    axes.errorbar(values, range(len(names)), xerr=errors, fmt="none", ecolor="0.15", capsize=3, linewidth=1.2)
    for place, value in enumerate(values):
        axes.text(0.01, place, f"{value:.3f}", va="center", color="white", fontsize="small")
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"F1 (95 % interval over {unit})")
    return figure


def bars(rows: Mapping[str, Mapping[str, float]], label: str) -> Figure:
    """F1 of groups, with the number of gold entities in each."""
    figure = Figure(figsize=(max(2.6, 0.9 + 0.62 * len(rows)), 3), layout="constrained")
    axes = figure.subplots()
    places = range(len(rows))
    axes.bar(places, [row["f1"] for row in rows.values()], color=BLUE, width=0.66, alpha=0.85)
    for place, row in zip(places, rows.values(), strict=True):
        axes.text(place, row["f1"] + 0.015, f"{row['f1']:.2f}", ha="center", fontsize="small")
        axes.text(
            place, 0.03, f"{row['support']:,}", ha="center", color="white", fontsize="x-small", rotation=90
        )
    axes.set_xticks(places, list(rows), fontsize="small")
    axes.set_ylim(0, 1.08)
    axes.set_xlabel(label)
    axes.set_ylabel("F1 (in the bar: gold entities)", fontsize="small")
    return figure


def confusion(
    rows: Sequence[str], columns: Sequence[str], counts: Sequence[Sequence[int]], sizes: float
) -> Figure:
    """Counts as a table, shaded by their share of the row."""
    table = np.array(counts, float)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(1.6 + sizes * len(columns), 1.1 + 0.36 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        if table[row, column]:
            colour = "white" if share > 0.55 else "black"
            text = f"{int(table[row, column]):,}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize="small")
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right", fontsize="small")
    axes.set_yticks(range(len(rows)), rows, fontsize="small")
    axes.set_xlabel("predicted")
    axes.set_ylabel("gold")
    return figure


def label_distribution(labels: Mapping[str, Mapping[str, int]]) -> Figure:
    """Share of each label except O among the labelled words of each split."""
    names = sorted(
        {label for row in labels.values() for label in row} - {"O"}, key=lambda tag: (tag[2:], tag)
    )
    figure = Figure(figsize=(6.5, 3), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(labels)
    for number, (split, row) in enumerate(labels.items()):
        total = sum(row.get(name, 0) for name in names)
        shares = [row.get(name, 0) / max(total, 1) for name in names]
        places = np.arange(len(names)) + (number - (len(labels) - 1) / 2) * width
        axes.bar(places, shares, width, label=split, color=COLOURS[number % 3], alpha=0.85)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize="small")
    axes.set_ylim(top=1.25 * axes.get_ylim()[1])  # room for the legend
    axes.set_ylabel("share of the words in entities", fontsize="small")
    axes.legend(fontsize="small", ncols=3, loc="upper left")
    return figure


def draw(
    result: SplitResult,
    history: History,
    best_step: int | None,
    labels: Mapping[str, Mapping[str, int]],
    seen: Set[str] | None,
) -> dict[str, Figure]:
    """The figures of one split by name; those without data are left out.

    Args:
        labels: split -> label -> words.
        seen: the entities of the training split as text (None: unknown).
    """
    figures = {}
    with matplotlib.rc_context(STYLE):
        if any("loss" in entry for entry in history):
            figures["training_curves"] = training_curves(history, best_step)
        figures["type_scores"] = type_scores(result.intervals["f1"], result.intervals["unit"])
        types, counts = span_confusion(result)
        figures["span_confusion"] = confusion([*types, "(spurious)"], [*types, "(missed)"], counts, 0.75)
        labelled, counts = word_confusion(result)
        figures["word_confusion"] = confusion(labelled, labelled, counts, 0.62)
        figures["f1_by_entity_length"] = bars(by_entity_length(result), "words in the entity")
        figures["f1_by_sentence_length"] = bars(by_sentence_length(result), "words in the sentence")
        if seen is not None:
            figures["f1_by_seen"] = bars(by_seen(result, seen), "in the training data")
        figures["label_distribution"] = label_distribution(labels)
    return figures


def as_svg(figure: Figure) -> str:
    text = io.StringIO()
    with matplotlib.rc_context(STYLE):
        # Transparent, for the page's light and dark background.
        figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    return text.getvalue()


def save(figures: Mapping[str, Figure], folder: Path) -> None:
    """Write each figure as PNG and SVG."""
    for name, figure in figures.items():
        write_bytes(folder / f"{name}.png", picture(figure, "png", dpi=200))
        write_text(folder / f"{name}.svg", as_svg(figure))


def picture(figure: Figure, kind: str, **options: object) -> bytes:
    """The file that `savefig` would write; kind: png or svg."""
    content = io.BytesIO()
    figure.savefig(content, format=kind, **options)
    return content.getvalue()
