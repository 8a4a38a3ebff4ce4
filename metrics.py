"""Word tags -> entities -> span and word scores: an `evaluate.Metric` on seqeval and scikit-learn.

    NerScores().compute(predictions=tags, references=tags)      # a list of IOB2 tags for each sentence

Works on its own and offline. Scores are derived from counts, and counts add up over any parts of a corpus.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence

import datasets
import evaluate
import numpy as np
import sklearn.metrics
from seqeval.metrics.sequence_labeling import get_entities

Tags = Sequence[str]  # one sentence's tags, IOB2
Entity = tuple[str, int, int]  # (type, first word, one past the last word) in its sentence
Spans = Sequence[tuple[set[Entity], set[Entity]]]  # gold and predicted entities of each sentence
AVERAGES = ("micro", "macro", "weighted")


class NerScores(evaluate.Metric):
    """Entity and word scores of IOB2 tags, with the interface of `evaluate`'s seqeval.

    `compute(predictions=..., references=...)` takes a list of tags for each sentence and returns a dict:

    - `span`: type and both boundaries match. As in conlleval and seqeval's default mode, an I- without a B-
    before
      it starts an entity. `span_strict`: seqeval's strict IOB2 mode, in which it does not.
      `left_boundary`, `right_boundary`: type and that boundary match (the shared task's looser scores).
      `untyped`: both boundaries match. Each holds micro, macro, weighted and one row per type with precision,
      recall, f1 and support; the typed rows and micro also hold the counts `predicted` and `correct`. The
      macro average is over the types that occur in gold or prediction.
    - `word`: one row per label, and averages without O; `accuracy` counts every word, O included.
    - `sentences`, `words`, `entities`: the numbers of gold sentences, words and entities.

    Raises:
        ValueError: sentences or words do not pair up, or tags are not IOB2.
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
        """As in `evaluate`, but a batch with one empty side is refused; `evaluate` silently skips it."""
        if predictions is not None and references is not None and len(predictions) != len(references):
            check_pairs(references, predictions)
        return super().add_batch(predictions=predictions, references=references, **kwargs)

    def _compute(self, predictions: Sequence[Tags], references: Sequence[Tags]) -> dict:
        return score(references, predictions)


def score(gold: Sequence[Tags], predicted: Sequence[Tags], spans: Spans | None = None) -> dict:
    """The scores that NerScores.compute returns, without `evaluate`'s Arrow round trip.

    `spans` is what `parse(gold, predicted)` returned, if the caller has it already.
    """
    if spans is None:
        spans = parse(gold, predicted)
    gold_spans, predicted_spans = [pair[0] for pair in spans], [pair[1] for pair in spans]
    # Strict IOB2 reads the same entities except those that start with I-; the tests compare it with seqeval.
    strict = (
        [{span for span in found if tags[span[1]][0] == "B"} for tags, found in zip(*side, strict=True)]
        for side in ((gold, gold_spans), (predicted, predicted_spans))
    )
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


def parse(gold: Sequence[Tags], predicted: Sequence[Tags]) -> Spans:
    """The gold and predicted entities of each sentence, as conlleval reads tags.

    Raises:
        ValueError: sentences or words do not pair up, or tags are not IOB2.
    """
    check_pairs(gold, predicted)
    return [tuple(map(entities, pair)) for pair in zip(gold, predicted, strict=True)]


def check_pairs(gold: Sequence[Tags], predicted: Sequence[Tags]) -> None:
    """Refuse sides that do not pair up word by word, and tags outside IOB2. Sentences count from 1."""
    if len(gold) != len(predicted):
        raise ValueError(
            f"found {len(predicted)} predicted sentences for {len(gold)} gold ones; expected as many"
        )
    for number, (gold_tags, predicted_tags) in enumerate(zip(gold, predicted, strict=True), start=1):
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


def entities(tags: Tags) -> set[Entity]:
    """The entities of one sentence as conlleval reads them: an I- without a B- starts an entity."""
    return {(kind, start, end + 1) for kind, start, end in get_entities(list(tags))}


def span_scores(
    gold: Sequence[set[Entity]],
    predicted: Sequence[set[Entity]],
    key: Callable[[Entity], tuple[str, Hashable]],
) -> dict[str, dict[str, float]]:
    """Count the entities that agree in `key`, whose first item is the type, and derive the scores by type."""
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
    """Precision, recall and F1 from counts. A ratio to nothing is 0, as in seqeval and scikit-learn."""
    return {
        "precision": correct / predicted if predicted else 0.0,
        "recall": correct / support if support else 0.0,
        "f1": 2 * correct / (predicted + support) if predicted + support else 0.0,
        "support": support,
        "predicted": predicted,
        "correct": correct,
    }


def average(rows: dict[str, dict], weights: np.ndarray, support: int) -> dict[str, float]:
    """The weighted mean of rows of scores."""
    names = ("precision", "recall", "f1")
    if not weights.sum():
        return {**dict.fromkeys(names, 0.0), "support": support}
    means = {name: float(np.average([row[name] for row in rows.values()], weights=weights)) for name in names}
    return {**means, "support": support}


def word_scores(gold: Sequence[Tags], predicted: Sequence[Tags]) -> dict:
    """scikit-learn's scores of single words: a row per label, averages without O, and accuracy with O."""
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
    """Nested scores as one level of keys joined by `_`, as in Trainer's result files."""
    flat = {}
    for name, value in scores.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{name}_"))
        else:
            flat[prefix + name] = value
    return flat
