"""What is wrong with a prediction: each error by its kind, counted by nervaluate beside seqeval.

    python errors.py OUTPUT_DIR/predictions_test.tsv        # the table of kinds, as text

Spans are half-open, in words of their sentence. Imports metrics.
"""

import argparse
import dataclasses
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set

from nervaluate import Evaluator

from metrics import Entity, Evaluation, PredictionFileError, entities, ratios, read_some_predictions

MISSED, SPURIOUS, WRONG_TYPE = "missed", "spurious", "wrong type"
TOO_LONG, TOO_SHORT, SHIFTED = "too long", "too short", "shifted"
KINDS = (MISSED, SPURIOUS, WRONG_TYPE, TOO_LONG, TOO_SHORT, SHIFTED)
# nervaluate's readings, and what each calls correct.
READINGS = {
    "strict": "type and both ends",
    "exact": "both ends, any type",
    "ent_type": "type, any overlap (partners sought by type first)",
    "partial": "any overlap, any type; half where the ends differ",
}
ENTITY_WORDS = (1, 2, 3, 4, 5, 6, 9)  # the first size of each bin
SENTENCE_WORDS = (1, 11, 21, 31, 41, 61)
COLUMNS = ("correct", "incorrect", "partial", "missed", "spurious")


@dataclasses.dataclass(frozen=True)
class Error:
    """A gold entity, a predicted one, or two that overlap without being equal; and what is wrong."""

    kinds: tuple[str, ...]
    gold: Entity | None
    predicted: Entity | None


def sentence_errors(gold: set[Entity], predicted: set[Entity]) -> list[Error]:
    """The errors of one sentence, in reading order.

    A predicted entity that is not right is held against the first gold one that it overlaps and that no other
    stands against, as nervaluate does; what has no partner is missed or spurious.
    """
    left = sorted(gold - predicted, key=lambda entity: entity[1])
    errors = []
    for entity in sorted(predicted - gold, key=lambda entity: entity[1]):
        partner = next((other for other in left if overlap(entity, other)), None)
        if partner is None:
            errors.append(Error((SPURIOUS,), None, entity))
        else:
            left.remove(partner)
            errors.append(Error(kinds_of(partner, entity), partner, entity))
    errors += [Error((MISSED,), entity, None) for entity in left]
    return sorted(errors, key=lambda error: (error.gold or error.predicted)[1])


def overlap(one: Entity, other: Entity) -> bool:
    return one[1] < other[2] and other[1] < one[2]


def kinds_of(gold: Entity, predicted: Entity) -> tuple[str, ...]:
    """What is wrong with a predicted entity that overlaps a gold one: the type, an end, or both."""
    kinds = () if gold[0] == predicted[0] else (WRONG_TYPE,)
    (_, start, end), (_, first, last) = gold, predicted
    if (start, end) == (first, last):
        return kinds
    if first <= start and end <= last:
        return (*kinds, TOO_LONG)
    if start <= first and last <= end:
        return (*kinds, TOO_SHORT)
    return (*kinds, SHIFTED)


def spans(evaluation: Evaluation) -> list[tuple[set[Entity], set[Entity]]]:
    """Gold and predicted entities of each sentence, in conlleval's reading."""
    return [
        (entities(gold), entities(predicted))
        for gold, predicted in zip(evaluation.gold, evaluation.predicted, strict=True)
    ]


def kind_counts(evaluation: Evaluation) -> dict[str, int]:
    """How many errors are of each kind; one with a wrong type and a wrong end counts under both."""
    counts = Counter(
        kind
        for gold, predicted in spans(evaluation)
        for error in sentence_errors(gold, predicted)
        for kind in error.kinds
    )
    return {kind: counts[kind] for kind in KINDS}


def f1_by(
    evaluation: Evaluation, group: Callable[[int, Entity], str], order: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Scores within groups of entities: `group` names that of a sentence's number and an entity of it.

    Gold and predicted entities are sorted alike, so those of a group add up to what is scored; groups that
    hold nothing are left out.
    """
    totals = {name: Counter() for name in order}
    for number, (gold, predicted) in enumerate(spans(evaluation)):
        for column, side in (("support", gold), ("predicted", predicted), ("correct", gold & predicted)):
            for entity in side:
                totals[group(number, entity)][column] += 1
    return {
        name: ratios(*(row[column] for column in ("correct", "predicted", "support")))
        for name, row in totals.items()
        if row
    }


def by_entity_length(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """Scores by the words of an entity."""
    return f1_by(
        evaluation,
        lambda number, entity: binned(entity[2] - entity[1], ENTITY_WORDS),
        bin_names(ENTITY_WORDS),
    )


def by_sentence_length(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """Scores by the words of the sentence."""
    return f1_by(
        evaluation,
        lambda number, entity: binned(len(evaluation.words[number]), SENTENCE_WORDS),
        bin_names(SENTENCE_WORDS),
    )


def by_seen(evaluation: Evaluation, seen: Set[str]) -> dict[str, dict[str, float]]:
    """Scores of entities whose words stood as an entity in training, and of those that are new."""

    def group(number: int, entity: Entity) -> str:
        return "seen" if surface(evaluation.words[number], entity) in seen else "unseen"

    return f1_by(evaluation, group, ["seen", "unseen"])


def surface(words: Sequence[str], entity: Entity) -> str:
    return " ".join(words[entity[1] : entity[2]])


def binned(size: int, edges: Sequence[int]) -> str:
    """The name of the bin that a size falls into; `edges` are the first sizes of the bins."""
    return bin_names(edges)[sum(size >= edge for edge in edges) - 1]


def bin_names(edges: Sequence[int]) -> list[str]:
    ends = [last - 1 for last in edges[1:]]
    names = [
        str(first) if first == last else f"{first}-{last}"
        for first, last in zip(edges[:-1], ends, strict=True)
    ]
    return [*names, f"{edges[-1]} or more"]


def span_confusion(evaluation: Evaluation) -> tuple[list[str], list[list[int]]]:
    """Types, and how often gold entities (rows, the last row: none) met predicted ones (columns, likewise).

    Entities meet when they are equal or stand against each other as in `sentence_errors`; a gold one without
    partner is in the last column (missed), a predicted one in the last row (spurious).
    """
    pairs = Counter()
    for gold, predicted in spans(evaluation):
        pairs.update((entity[0], entity[0]) for entity in gold & predicted)
        pairs.update(
            (error.gold and error.gold[0], error.predicted and error.predicted[0])
            for error in sentence_errors(gold, predicted)
        )
    types = sorted({kind for pair in pairs for kind in pair if kind})
    return types, [[pairs[row, column] for column in [*types, None]] for row in [*types, None]]


def word_confusion(evaluation: Evaluation) -> tuple[list[str], list[list[int]]]:
    """Labels, and how many words of each gold label (rows) were given each label (columns)."""
    pairs = Counter()
    for gold, predicted in zip(evaluation.gold, evaluation.predicted, strict=True):
        pairs.update(zip(gold, predicted, strict=True))
    labels = sorted({tag for pair in pairs for tag in pair}, key=lambda tag: (tag == "O", tag[2:], tag))
    return labels, [[pairs[row, column] for column in labels] for row in labels]


def nervaluate_counts(evaluation: Evaluation) -> dict[str, dict[str, int]]:
    """Counts by nervaluate: for each of its READINGS correct, incorrect, partial, missed, spurious.

    It is given spans, sentence by sentence: from tags it would read an I- without a B- in its own way.
    """
    both = spans(evaluation)
    kinds = sorted({kind for pair in both for side in pair for kind, *_ in side})
    sides = [[as_dicts(pair[side]) for pair in both] for side in (0, 1)]
    if not both or not kinds:
        return {reading: dict.fromkeys(COLUMNS, 0) for reading in READINGS}
    found = Evaluator(*sides, tags=kinds, loader="dict").evaluate()["overall"]
    return {reading: {column: getattr(found[reading], column) for column in COLUMNS} for reading in READINGS}


def as_dicts(entities: Iterable[Entity]) -> list[dict]:
    """Entities as nervaluate takes them, in reading order: the end is the last word, not one past it."""
    ordered = sorted(entities, key=lambda entity: entity[1])
    return [{"label": kind, "start": start, "end": end - 1} for kind, start, end in ordered]


def render_kinds(evaluation: Evaluation) -> str:
    """nervaluate's counts beside seqeval's, and the errors by kind."""
    micro = evaluation.scores["span"]["micro"]
    lines = [
        "Kinds of error, by nervaluate",
        "",
        f"{'':<9}" + "".join(f"  {column:>9}" for column in COLUMNS) + "  correct means",
    ]
    for reading, row in nervaluate_counts(evaluation).items():
        numbers = "".join(f"  {row[column]:9,}" for column in COLUMNS)
        lines.append(f"{reading:<9}{numbers}  {READINGS[reading]}")
    lines += [
        "",
        f"seqeval: {micro['correct']:,} correct of {micro['support']:,} gold and {micro['predicted']:,} "
        "predicted entities, as strict",
        "",
        "Errors by kind (a wrong type with a wrong end is in both rows)",
        "",
        *(f"{kind:<10}  {number:6,}" for kind, number in kind_counts(evaluation).items()),
    ]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Kinds of error of a prediction file.")
    parser.add_argument("file", help="predictions_test.tsv or predictions_validation.tsv of an output folder")
    try:
        evaluation = read_some_predictions(parser.parse_args(argv).file)
    except PredictionFileError as error:
        print(f"errors.py: error: {error}", file=sys.stderr)
        return 2
    print(render_kinds(evaluation), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
