"""report.html: one page that tells how good a model is, how sure that is, and what it gets wrong.

    xdg-open OUTPUT_DIR/report.html        # or a double click: one file, no server, no network

The callback refreshes it while the model trains; run_ner.py writes it at the end, with figures/ beside it.
`page.html` is its template. Imports errors, figures, intervals, jnlpba_dataset, metrics, report.
"""

import base64
import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Protocol

import datasets
import jinja2
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from errors import COLUMNS, KINDS, READINGS, kind_counts, nervaluate_counts, sentence_errors, spans, surface
from figures import as_svg, draw, save
from intervals import intervals
from jnlpba_dataset import split_counts
from metrics import Entity, Evaluation, entities
from report import FIGURES, PAGE, SERVED_FORMS, Scorer, averages_last, improves, kept_history, write_text

TEMPLATE = Path(__file__).resolve().parent / "page.html"
CAPTIONS = {
    "training_curves": "Loss, F1 and learning rate by step; the dotted line is the model that was kept",
    "type_scores": "F1 by type with its 95 % interval",
    "span_confusion": "Entities: what gold ones (rows) met; overlapping ones count as met",
    "word_confusion": "Words: gold labels (rows) and predicted ones",
    "f1_by_entity_length": "F1 by the words of an entity",
    "f1_by_sentence_length": "F1 by the words of the sentence",
    "f1_by_seen": "F1 of entities that training had, word for word, and of new ones",
    "label_distribution": "Labels of the splits",
}


class CorpusPart(Protocol):
    """What the page needs of run_ner's Split."""

    name: str
    sentences: datasets.Dataset


@dataclasses.dataclass
class Story:
    """All that the page tells of one run.

    `evaluations` and `served` are by role (validation, test); `corpus` holds for each role its name, counts
    and the words of each label; `seen` the entities of the training split by their words (None: not known);
    `settings` names and values by heading.
    """

    title: str
    facts: Mapping[str, str]
    evaluations: Mapping[str, Evaluation]
    corpus: Mapping[str, Mapping]
    history: Sequence[Mapping[str, float]] = ()
    best_step: int | None = None
    seen: Set[str] | None = None
    served: Mapping[str, Mapping] = dataclasses.field(default_factory=dict)
    strategy: str | None = None
    settings: Mapping[str, Mapping[str, object]] = dataclasses.field(default_factory=dict)
    status: str = ""


class PageCallback(TrainerCallback):
    """Refreshes the page at each evaluation: the scores of the best so far, the curves of all."""

    def __init__(self, output_dir: str, scorer: Scorer, story: Story):
        self.output_dir, self.scorer, self.story = output_dir, scorer, story

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: dict, **kwargs
    ):
        if not state.is_world_process_zero or self.scorer.evaluation is None or not state.epoch:
            return
        if improves(args, state, metrics) or not self.story.evaluations:
            self.story.evaluations = {"validation": self.scorer.evaluation}
            self.story.best_step = state.global_step
        self.story.history = state.log_history
        self.story.status = f"training: epoch {state.epoch:.2g} of {state.num_train_epochs:g}"
        write_page(self.output_dir, self.story)


def write_page(output_dir: str | Path, story: Story, with_figures: bool = False) -> None:
    """Write the page, and (with_figures) each figure as PNG and SVG beside it."""
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    role = list(story.evaluations)[-1]
    sure = {name: intervals(evaluation) for name, evaluation in story.evaluations.items()}
    labels = {part["name"]: part["labels"] for part in story.corpus.values()}
    drawn = draw(story.evaluations[role], sure[role], story.history, story.best_step, labels, story.seen)
    if with_figures:
        save(drawn, folder / "figures")
    pictures = [
        {"name": name, "caption": CAPTIONS[name], "data": base64.b64encode(as_svg(figure).encode()).decode()}
        for name, figure in drawn.items()
    ]
    write_text(folder / PAGE, render_page(story, role, sure, pictures, folder))


def files_beside(folder: Path) -> list[str]:
    """What lies in the output folder, figures/ too; the card, which is written last, among them."""
    names = {path.name for path in folder.iterdir() if path.is_file() and path.name != PAGE}
    if "config.json" in names:
        names.add("README.md")
    return sorted(names) + [
        f"figures/{name}.svg" for name in FIGURES if (folder / f"figures/{name}.svg").is_file()
    ]


def render_page(
    story: Story,
    role: str,
    sure: Mapping[str, Mapping],
    pictures: Sequence[Mapping[str, str]],
    folder: Path,
) -> str:
    """The page as text: figures as data, mistakes as JSON that its script shows, nothing from elsewhere."""
    evaluation = story.evaluations[role]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        story=story,
        role=role,
        micro=evaluation.scores["span"]["micro"],
        scores=evaluation.scores,
        sure=sure[role],
        rows=type_rows(evaluation.scores["span"], sure[role]["f1"]),
        pictures={picture["name"]: picture for picture in pictures},
        readings=nervaluate_counts(evaluation),
        meaning=READINGS,
        columns=COLUMNS,
        kinds=kind_counts(evaluation),
        forms=SERVED_FORMS,
        served=story.served.get(role),
        folder=folder,
        files=files_beside(folder),
        data=as_script({name: mistakes(part) for name, part in story.evaluations.items()}),
    )


def type_rows(span: Mapping[str, Mapping], f1: Mapping[str, Mapping]) -> list[dict]:
    """A row a type and average: scores, and the interval of F1 where there is one."""
    return [{"name": name, **span[name], "sure": f1.get(name)} for name in averages_last(span)]


def as_script(data: object) -> str:
    """JSON that can stand in a script element: nothing in it ends the element or begins a comment."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def mistakes(evaluation: Evaluation) -> dict:
    """What the error browser shows of one split, as short as it can be told.

    `types` and `kinds` are named by their places; a sentence is [number, words, gold, predicted, errors],
    where an entity is [type, first word, one past the last] and an error [kinds, gold entity or -1,
    predicted entity or -1, confidence or null].
    """
    both = spans(evaluation)
    types = sorted({kind for pair in both for side in pair for kind, *_ in side})
    rows = []
    for number, (gold, predicted) in enumerate(both):
        errors = sentence_errors(gold, predicted)
        if errors:
            sides = [sorted(side, key=lambda entity: entity[1]) for side in (gold, predicted)]
            confidence = evaluation.confidence[number] if evaluation.confidence else None
            told = [
                [
                    [KINDS.index(kind) for kind in error.kinds],
                    sides[0].index(error.gold) if error.gold else -1,
                    sides[1].index(error.predicted) if error.predicted else -1,
                    certainty(error.predicted or error.gold, confidence),
                ]
                for error in errors
            ]
            spoken = [[[types.index(kind), start, end] for kind, start, end in side] for side in sides]
            rows.append([number + 1, evaluation.words[number], *spoken, told])
    return {"types": types, "kinds": KINDS, "sentences": len(both), "rows": rows}


def certainty(entity: Entity, confidence: Sequence[float] | None) -> float | None:
    """The model's mean probability of the tags that it gave to an entity's words."""
    if confidence is None:
        return None
    part = confidence[entity[1] : entity[2]]
    return round(sum(part) / len(part), 3)


def begin_story(output_dir: str, splits: Mapping[str, CorpusPart], facts: Mapping[str, str]) -> Story:
    """What the page tells of the corpus, of a run that has yet to begin."""
    corpus, seen = {}, None
    for role, split in splits.items():
        names = split.sentences.features["ner_tags"].feature.names
        tags = [[names[tag] for tag in row] for row in split.sentences["ner_tags"]]
        counts = Counter(tag for row in tags for tag in row)
        corpus[role] = {"name": split.name, "labels": dict(counts), **split_counts(split.sentences)}
        if role == "train":
            sentences = split.sentences["tokens"]
            seen = {
                surface(words, entity)
                for words, row in zip(sentences, tags, strict=True)
                for entity in entities(row)
            }
    return Story(Path(output_dir).resolve().name, facts, {}, corpus, seen=seen)


def end_story(story: Story, trainer: Trainer, scorers: Mapping[str, Scorer], record: Mapping) -> None:
    """What the page tells of a run that has ended; `record` is run.json's."""
    if scorers:  # or those of the training stay
        story.evaluations = {role: scorer.evaluation for role, scorer in scorers.items()}
        story.facts = list(scorers.values())[-1].facts
    story.served = {role: scorer.served for role, scorer in scorers.items() if scorer.served}
    story.strategy = record["served"] and record["served"]["strategy"]
    story.history, story.status = trainer.state.log_history, ""
    kept = kept_history(trainer.args, trainer.state)
    story.best_step = kept[-1]["step"] if kept else None
    origin = {name: record[name] for name in ("device", "processes")}
    story.settings = {"settings": record["settings"], "origin": origin, "versions": record["versions"]}
