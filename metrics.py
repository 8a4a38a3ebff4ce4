"""Word tags -> entities -> span and word scores: an `evaluate.Metric` on seqeval and scikit-learn.

    python metrics.py OUTPUT_DIR/predictions_test.tsv        # scores of a prediction file, as JSON

Usable on its own and offline: `NerScores().compute(predictions=tags, references=tags)`. Counts add; every
score is derived from counts, once. Imports nothing of ours.
"""

import argparse
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import datasets
import evaluate
import numpy as np
import sklearn.metrics
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, Entities

Tags = Sequence[str]  # one sentence's tags, IOB2
Entity = tuple[str, int, int]  # (type, first word, one past the last word), in its sentence
AVERAGES = ("micro", "macro", "weighted")


class PredictionFileError(ValueError):
    """A prediction file that can't be read: `FILE:LINE: found; expected`."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One split, predicted: words, gold and predicted tags by sentence, in corpus order, and the scores.

    `documents` numbers the abstract of each sentence (None: not known); `confidence` is the model's
    probability of each word's predicted tag (None: not kept).
    """

    words: list[list[str]]
    gold: list[list[str]]
    predicted: list[list[str]]
    scores: dict
    documents: list[int] | None = None
    confidence: list[list[float]] | None = None


class NerScores(evaluate.Metric):
    """Typed and untyped entity scores and word scores of IOB2 tags, used as `evaluate`'s seqeval is.

    `compute(predictions=..., references=...)` takes a list of tags a sentence and returns a dict:

    - `span`: conlleval's (and seqeval's default) reading, in which an I- with no B- before it starts an
      entity; `span_strict`: seqeval's strict IOB2 reading, in which it starts none;
      `left_boundary`, `right_boundary`: type and that end of the span match (the shared task's looser
      scores); `untyped`: both ends match, whatever the type. Each holds micro, macro, weighted and one row a
      type: precision, recall, f1, support; the typed rows and micro also the counts `predicted` and
      `correct`. The macro average is over types that occur in gold or prediction.
    - `word`: one row a label, and averages that leave O out; `accuracy` counts every word, O too.
    - `sentences`, `words`, `entities`: what was scored.

    Raises ValueError for sentences or words that do not pair up and for tags that are not IOB2.
    """

    def __init__(self, **kwargs):
        super().__init__(**{"keep_in_memory": True, **kwargs})

    def _info(self) -> evaluate.MetricInfo:
        tags = datasets.List(datasets.Value("string"))
        return evaluate.MetricInfo(
            description="Entity (span) and word scores of named entity recognition.",
            citation="https://github.com/chakki-works/seqeval; https://scikit-learn.org",
            inputs_description="predictions, references: a list of IOB2 tags for each sentence.",
            features=datasets.Features({"predictions": tags, "references": tags}),
        )

    def add_batch(self, *, predictions=None, references=None, **kwargs):
        """As in `evaluate`, which skips a batch unseen if one side of it is empty; here that is refused."""
        if predictions is not None and references is not None and len(predictions) != len(references):
            check_pairs(references, predictions)
        return super().add_batch(predictions=predictions, references=references, **kwargs)

    def _compute(self, predictions: Sequence[Tags], references: Sequence[Tags]) -> dict:
        return score(references, predictions)


def score(gold: Sequence[Tags], predicted: Sequence[Tags]) -> dict:
    """The scores that NerScores.compute returns, without `evaluate`'s Arrow round trip."""
    check_pairs(gold, predicted)
    gold_spans, predicted_spans = ([entities(tags) for tags in side] for side in (gold, predicted))
    strict = ([entities(tags, strict=True) for tags in side] for side in (gold, predicted))
    return {
        "sentences": len(gold),
        "words": sum(map(len, gold)),
        "entities": sum(map(len, gold_spans)),
        "span": span_scores(gold_spans, predicted_spans, lambda entity: entity),
        "span_strict": span_scores(*strict, lambda entity: entity),
        "left_boundary": span_scores(gold_spans, predicted_spans, lambda entity: entity[:2]),
        "right_boundary": span_scores(gold_spans, predicted_spans, lambda entity: (entity[0], entity[2])),
        "untyped": span_scores(gold_spans, predicted_spans, lambda entity: ("entity", *entity[1:])),
        **word_scores(gold, predicted),
    }


def check_pairs(gold: Sequence[Tags], predicted: Sequence[Tags]) -> None:
    """Refuse sides that do not pair up word by word, and tags outside IOB2."""
    if len(gold) != len(predicted):
        raise ValueError(
            f"found {len(predicted)} predicted sentences for {len(gold)} gold ones; expected as many"
        )
    for number, (gold_tags, predicted_tags) in enumerate(zip(gold, predicted, strict=True)):
        if len(gold_tags) != len(predicted_tags):
            raise ValueError(
                f"sentence {number}: found {len(predicted_tags)} predicted tags for {len(gold_tags)} gold "
                "ones; expected as many"
            )
    seen = {tag for side in (gold, predicted) for tags in side for tag in tags}
    strange = sorted(
        tag for tag in seen if tag != "O" and (tag[:2] not in ("B-", "I-") or tag[2:] in ("", *AVERAGES))
    )
    if strange:
        raise ValueError(
            f"found the tags {', '.join(map(repr, strange[:5]))}; expected O, B-TYPE or I-TYPE (IOB2)"
        )


def entities(tags: Tags, strict: bool = False) -> set[Entity]:
    """The entities of one sentence, read as conlleval does or (strict) only those that begin with B-."""
    if not strict or is_well_formed(tags):
        return {(kind, start, end + 1) for kind, start, end in get_entities(list(tags))}
    return {(entity.tag, entity.start, entity.end) for entity in Entities([list(tags)], IOB2).entities[0]}


def is_well_formed(tags: Tags) -> bool:
    """Whether each I- continues an entity of its type; then both readings agree, and the fast one serves."""
    before = "O"
    for tag in tags:
        if tag.startswith("I-") and before[2:] != tag[2:]:
            return False
        before = tag
    return True


def span_scores(
    gold: Sequence[set[Entity]],
    predicted: Sequence[set[Entity]],
    key: Callable[[Entity], tuple[str, Hashable]],
) -> dict[str, dict[str, float]]:
    """Count entities that agree in `key`, whose first item is the type, and derive the scores by type."""
    counts: dict[str, Counter] = {"support": Counter(), "predicted": Counter(), "correct": Counter()}
    for gold_spans, predicted_spans in zip(gold, predicted, strict=True):
        gold_keys, predicted_keys = set(map(key, gold_spans)), set(map(key, predicted_spans))
        sides = {"support": gold_keys, "predicted": predicted_keys, "correct": gold_keys & predicted_keys}
        for name, keys in sides.items():
            counts[name].update(kind for kind, *_ in keys)
    kinds = sorted(counts["support"] | counts["predicted"])
    rows = {
        kind: ratios(*(counts[name][kind] for name in ("correct", "predicted", "support"))) for kind in kinds
    }
    micro = ratios(*(counts[name].total() for name in ("correct", "predicted", "support")))
    support = np.array([row["support"] for row in rows.values()])
    return {
        "micro": micro,
        "macro": average(rows, np.ones(len(rows)), micro["support"]),
        "weighted": average(rows, support, micro["support"]),
        **rows,
    }


def ratios(correct: int, predicted: int, support: int) -> dict[str, float]:
    """Precision, recall and F1 of counts; a ratio to nothing is 0, as in seqeval and scikit-learn."""
    return {
        "precision": correct / predicted if predicted else 0.0,
        "recall": correct / support if support else 0.0,
        "f1": 2 * correct / (predicted + support) if predicted + support else 0.0,
        "support": support,
        "predicted": predicted,
        "correct": correct,
    }


def average(rows: dict[str, dict], weights: np.ndarray, support: int) -> dict[str, float]:
    """The mean of rows of scores under the given weights."""
    names = ("precision", "recall", "f1")
    if not weights.sum():
        return {**dict.fromkeys(names, 0.0), "support": support}
    means = {name: float(np.average([row[name] for row in rows.values()], weights=weights)) for name in names}
    return {**means, "support": support}


def word_scores(gold: Sequence[Tags], predicted: Sequence[Tags]) -> dict:
    """scikit-learn's scores of single words: a row a label, averages without O, and accuracy with it."""
    flat_gold = [tag for tags in gold for tag in tags]
    flat_predicted = [tag for tags in predicted for tag in tags]
    names = sorted({*flat_gold, *flat_predicted} - {"O"}, key=lambda tag: (tag[2:], tag))
    # Integers: scikit-learn compares them many times faster than strings.
    ids = {name: number for number, name in enumerate([*names, "O"])}
    sides = [np.array([ids[tag] for tag in side], dtype=int) for side in (flat_gold, flat_predicted)]
    accuracy = float(np.mean(sides[0] == sides[1])) if flat_gold else 0.0
    if not names:
        nothing = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
        return {"word": {name: dict(nothing) for name in AVERAGES}, "accuracy": accuracy}
    labels = range(len(names))

    def scikit_learn(how: str | None) -> tuple:
        return sklearn.metrics.precision_recall_fscore_support(
            *sides, labels=labels, average=how, zero_division=0
        )

    columns = scikit_learn(None)
    rows = {name: word_row(*(column[i] for column in columns)) for i, name in enumerate(names)}
    total = sum(row["support"] for row in rows.values())
    averages = {how: word_row(*scikit_learn(how)[:3], total) for how in AVERAGES}
    return {"word": {**averages, **rows}, "accuracy": accuracy}


def word_row(precision: float, recall: float, f1: float, support: int) -> dict[str, float]:
    return {"precision": float(precision), "recall": float(recall), "f1": float(f1), "support": int(support)}


def flatten(scores: dict, prefix: str = "") -> dict[str, float]:
    """Nested scores as one level of keys joined by `_`, the form of Trainer's result files."""
    flat = {}
    for name, value in scores.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{name}_"))
        else:
            flat[prefix + name] = value
    return flat


def format_predictions(evaluation: Evaluation) -> str:
    """`word TAB gold TAB predicted`, a blank line after each sentence: what conlleval -d '\\t' reads.

    A second blank line ends each abstract, where abstracts are known.
    """
    lines = []
    documents = evaluation.documents or []
    following = [*documents[1:], None]
    for number, columns in enumerate(
        zip(evaluation.words, evaluation.gold, evaluation.predicted, strict=True)
    ):
        lines += ["\t".join(row) + "\n" for row in zip(*columns, strict=True)] + ["\n"]
        if documents and documents[number] != following[number]:
            lines.append("\n")
    return "".join(lines)


def read_predictions(path: str | Path) -> Evaluation:
    """The words, gold and predicted tags of a prediction file, and their scores.

    Raises:
        PredictionFileError: `FILE:LINE: ...` for a line without three columns, `FILE: ...` for a missing
            file, one that is not UTF-8, or tags that can't be scored.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PredictionFileError(f"{path}: {error}; expected a UTF-8 prediction file") from None
    sentences: list[list[list[str]]] = [[]]
    documents, document = [], 0
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        fields = line.split("\t")
        if fields == [""]:
            document += bool(documents) and not sentences[-1]  # a second blank line: an abstract's end
            sentences.append([])
        elif len(fields) == 3:
            documents += [] if sentences[-1] else [document]
            sentences[-1].append(fields)
        else:
            raise PredictionFileError(
                f"{path}:{number}: found {len(fields)} columns; expected 3, word TAB gold TAB predicted"
            )
    columns = [[list(column) for column in zip(*rows, strict=True)] for rows in sentences if rows]
    words, gold, predicted = (list(side) for side in zip(*columns, strict=True)) if columns else ([], [], [])
    try:
        return Evaluation(words, gold, predicted, score(gold, predicted), documents if document else None)
    except ValueError as error:
        raise PredictionFileError(f"{path}: {error}") from None


def read_some_predictions(path: str | Path) -> Evaluation:
    """As `read_predictions`, but a file without any sentence is refused: it has nothing to look into."""
    evaluation = read_predictions(path)
    if not evaluation.words:
        raise PredictionFileError(f"{path}: found no sentence; expected a prediction file")
    return evaluation


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Score a prediction file: word TAB gold TAB predicted.")
    parser.add_argument("file", help="predictions_test.tsv or predictions_validation.tsv of an output folder")
    try:
        evaluation = read_predictions(parser.parse_args(argv).file)
    except PredictionFileError as error:
        print(f"metrics.py: error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(evaluation.scores, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
