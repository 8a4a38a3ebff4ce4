"""report.html: one page with a run's scores, their intervals, its curves and every mistake.

    xdg-open OUTPUT_DIR/report.html        # one file, no server, no network

ReportCallback refreshes it while the model trains; the end of a run writes it once more, with figures/ beside
it.
"""

import base64
import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from jnlpba_dataset import column, columns
from metrics import AVERAGES, Entity, entities
from ner_recipe.corpora.building import label_names
from ner_recipe.corpora.splits import Split
from ner_recipe.reports.error_analysis import (
    COLUMNS,
    KINDS,
    READINGS,
    kind_counts,
    nervaluate_counts,
    sentence_errors,
    surface,
)
from ner_recipe.reports.figures import as_svg, draw, save
from ner_recipe.reports.files import CARD, FIGURES, PAGE, files_in, write_text
from ner_recipe.reports.history import History
from ner_recipe.reports.result import SplitResult
from ner_recipe.reports.template import render_template
from ner_recipe.reports.text import averages_last, served_forms

TEMPLATE = Path(__file__).resolve().parent / "page.html"


@dataclasses.dataclass(frozen=True)
class Overview:
    """What the page says about the corpus.

    `splits` holds name, counts and `labels` (label -> words) by role; `seen` the entities of the training
    split as text (None: unknown).
    """

    splits: Mapping[str, Mapping]
    seen: Set[str] | None


@dataclasses.dataclass(frozen=True)
class PageContent:
    """Everything on the page of one run.

    `results` are by role; the last is the headline. `settings` are rows of the table at the end of the page.
    `strategy` is the recommended aggregation strategy, `status` the progress of a run that is still training.
    """

    results: Mapping[str, SplitResult]
    overview: Overview
    history: History = ()
    best_step: int | None = None
    strategy: str | None = None
    settings: Mapping[str, object] = dataclasses.field(default_factory=dict)
    status: str = ""


def corpus_overview(splits: Mapping[str, Split]) -> Overview:
    """Count the labels of each split, and collect the entities of the training split."""
    parts, seen = {}, None
    for role, split in splits.items():
        names = label_names(split.sentences)
        labels = Counter(tag for tags in column(split.sentences, "ner_tags") for tag in tags)
        labels = {names[tag]: count for tag, count in labels.items()}
        parts[role] = {"name": split.name, "labels": labels, **split.counts}
        if split.silver:
            parts[role]["silver"] = split.silver.counts
        if role == "train":
            seen = {
                surface(words, entity)
                for words, tags in columns(split.sentences, "tokens", "ner_tags")
                if any(tags)
                for entity in entities([names[tag] for tag in tags])
            }
    return Overview(parts, seen)


def final_content(
    results: Mapping[str, SplitResult],
    overview: Overview,
    history: History,
    kept: History,
    record: Mapping[str, Any],
) -> PageContent:
    """The page of a finished run. `kept` is the history up to the model that was kept, `record` run.json."""
    learnt_from = {"learnt from": record["teachers"]} if "teachers" in record else {}
    return PageContent(
        results,
        overview,
        history,
        best_step=kept[-1]["step"] if kept else None,
        strategy=record["pipeline"]["aggregation_strategy"],
        settings={**learnt_from, **record["settings"], "device": record["device"], **record["versions"]},
    )


def write_page(output_dir: str | Path, content: PageContent, with_figures: bool = False) -> None:
    """Write the page, and (with_figures) each figure as PNG and SVG beside it."""
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    result = list(content.results.values())[-1]
    labels = {part["name"]: part["labels"] for part in content.overview.splits.values()}
    drawn = draw(result, content.history, content.best_step, labels, content.overview.seen)
    if with_figures:
        save(drawn, folder / "figures")
    pictures = {name: base64.b64encode(as_svg(figure).encode()).decode() for name, figure in drawn.items()}
    write_text(folder / PAGE, render_page(content, pictures, folder))


def files_beside(folder: Path) -> list[str]:
    """The files in the output folder and in figures/, and the card, which is written last."""
    names = files_in(folder) - {PAGE}
    if "config.json" in names:
        names.add(CARD)
    figures = [f"figures/{name}.svg" for name in FIGURES]
    return sorted(names) + [name for name in figures if (folder / name).is_file()]


def render_page(content: PageContent, pictures: Mapping[str, str], folder: Path) -> str:
    """The page as text: figures (base64 SVG by name) as data, mistakes as JSON, nothing from elsewhere."""
    role, result = list(content.results.items())[-1]
    return render_template(
        TEMPLATE,
        content=content,
        title=folder.resolve().name,
        role=role,
        result=result,
        micro=result.scores["span"]["micro"],
        rows=type_rows(result),
        averages=AVERAGES,
        pictures=pictures,
        captions=FIGURES,
        readings=nervaluate_counts(result),
        meaning=READINGS,
        columns=COLUMNS,
        kinds=kind_counts(result),
        served={form: result.served[form]["scores"][content.strategy] for form in served_forms(result.served)}
        if result.served
        else {},
        folder=folder,
        files=files_beside(folder),
        data=as_script({name: mistakes(part) for name, part in content.results.items()}),
    )


def type_rows(result: SplitResult) -> list[dict]:
    """A row per type and average: scores, and the interval of F1 where there is one."""
    span, intervals = result.scores["span"], result.intervals["f1"]
    return [{"name": name, **span[name], "interval": intervals.get(name)} for name in averages_last(span)]


def as_script(data: object) -> str:
    """JSON for a script element: nothing in it can end the element or start a comment."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def mistakes(result: SplitResult) -> dict:
    """The data of the error browser for one split, in a compact form.

    Types and kinds are indices into `types` and `kinds`. A row is [number, words, gold, predicted, errors];
    an entity is [type, first word, one past the last word]; an error is [kinds, index of the gold entity or
    -1, index of the predicted entity or -1, confidence or null].
    """
    both = result.spans
    types = sorted({kind for pair in both for side in pair for kind, *_ in side})
    rows = []
    for number, (gold, predicted) in enumerate(both):
        errors = sentence_errors(gold, predicted)
        if errors:
            sides = [sorted(side, key=lambda entity: entity[1]) for side in (gold, predicted)]
            confidence = result.confidence[number] if result.confidence else None
            listed = [
                [
                    [KINDS.index(kind) for kind in error.kinds],
                    sides[0].index(error.gold) if error.gold else -1,
                    sides[1].index(error.predicted) if error.predicted else -1,
                    certainty(error.predicted or error.gold, confidence),
                ]
                for error in errors
            ]
            listed_entities = [
                [[types.index(kind), start, end] for kind, start, end in side] for side in sides
            ]
            rows.append([number + 1, result.words[number], *listed_entities, listed])
    return {"types": types, "kinds": KINDS, "sentences": len(both), "rows": rows}


def certainty(entity: Entity, confidence: Sequence[float] | None) -> float | None:
    """The model's mean probability of its tags for an entity's words."""
    if confidence is None:
        return None
    part = confidence[entity[1] : entity[2]]
    return round(sum(part) / len(part), 3)
