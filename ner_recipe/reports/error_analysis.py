"""Each error of a prediction by its kind, with nervaluate's counts beside seqeval's.

    python -m ner_recipe.reports OUTPUT_DIR/predictions_test.tsv

Spans are half-open, in words of their sentence.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set

from nervaluate import Evaluator

from metrics import Entity, ratios
from ner_recipe.reports.result import SplitResult

MISSED, SPURIOUS, WRONG_TYPE = "missed", "spurious", "wrong type"
TOO_LONG, TOO_SHORT, SHIFTED = "too long", "too short", "shifted"
KINDS = (MISSED, SPURIOUS, WRONG_TYPE, TOO_LONG, TOO_SHORT, SHIFTED)
# nervaluate's readings, and what each calls correct.
READINGS = {
    "strict": "type and both ends",
    "exact": "both ends, any type",
    "ent_type": "type, any overlap (pairs of one type come first)",
    "partial": "any overlap, any type; counts half if an end differs",
}
ENTITY_WORDS = (1, 2, 3, 4, 5, 6, 9)  # the first size of each bin
SENTENCE_WORDS = (1, 11, 21, 31, 41, 61)
COLUMNS = ("correct", "incorrect", "partial", "missed", "spurious")


@dataclasses.dataclass(frozen=True)
class Error:
    """A missed gold entity, a spurious prediction, or two entities that overlap but differ."""

    kinds: tuple[str, ...]
    gold: Entity | None
    predicted: Entity | None


def sentence_errors(gold: set[Entity], predicted: set[Entity]) -> list[Error]:
    """The errors of one sentence, in reading order.

    As in nervaluate, a wrong prediction is paired with the first gold entity that it overlaps and that has no
    partner yet. Entities without a partner are missed or spurious.
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


def kind_counts(result: SplitResult) -> dict[str, int]:
    """The number of errors of each kind. One with a wrong type and a wrong end counts under both."""
    counts = Counter(
        kind
        for gold, predicted in result.spans
        for error in sentence_errors(gold, predicted)
        for kind in error.kinds
    )
    return {kind: counts[kind] for kind in KINDS}


def f1_by(
    result: SplitResult, group: Callable[[int, Entity], str], order: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Scores within groups of entities. `group` takes a sentence's index and an entity, and returns a group's
    name.

    Gold and predicted entities are grouped alike, so the groups add up to the whole. Empty groups are left
    out.
    """
    totals = {name: Counter() for name in order}
    for number, (gold, predicted) in enumerate(result.spans):
        for column, side in (("support", gold), ("predicted", predicted), ("correct", gold & predicted)):
            for entity in side:
                totals[group(number, entity)][column] += 1
    return {
        name: ratios(*(row[column] for column in ("correct", "predicted", "support")))
        for name, row in totals.items()
        if row
    }


def by_entity_length(result: SplitResult) -> dict[str, dict[str, float]]:
    """Scores by the number of words in an entity."""
    return f1_by(
        result,
        lambda number, entity: binned(entity[2] - entity[1], ENTITY_WORDS),
        bin_names(ENTITY_WORDS),
    )


def by_sentence_length(result: SplitResult) -> dict[str, dict[str, float]]:
    """Scores by the number of words in the sentence."""
    return f1_by(
        result,
        lambda number, entity: binned(len(result.words[number]), SENTENCE_WORDS),
        bin_names(SENTENCE_WORDS),
    )


def by_seen(result: SplitResult, seen: Set[str]) -> dict[str, dict[str, float]]:
    """Scores of entities that occur in the training data word for word, and of new ones."""

    def group(number: int, entity: Entity) -> str:
        return "seen" if surface(result.words[number], entity) in seen else "unseen"

    return f1_by(result, group, ["seen", "unseen"])


def surface(words: Sequence[str], entity: Entity) -> str:
    return " ".join(words[entity[1] : entity[2]])


def binned(size: int, edges: Sequence[int]) -> str:
    """The name of the bin of this size. `edges` are the first sizes of the bins."""
    return bin_names(edges)[sum(size >= edge for edge in edges) - 1]


def bin_names(edges: Sequence[int]) -> list[str]:
    ends = [last - 1 for last in edges[1:]]
    names = [
        str(first) if first == last else f"{first}-{last}"
        for first, last in zip(edges[:-1], ends, strict=True)
    ]
    return [*names, f"{edges[-1]} or more"]


def span_confusion(result: SplitResult) -> tuple[list[str], list[list[int]]]:
    """Types, and the counts of gold (rows) and predicted entities (columns) that are equal or paired.

    Pairs are those of `sentence_errors`. The last column counts missed entities, the last row spurious ones.
    """
    pairs = Counter()
    for gold, predicted in result.spans:
        pairs.update((entity[0], entity[0]) for entity in gold & predicted)
        pairs.update(
            (error.gold and error.gold[0], error.predicted and error.predicted[0])
            for error in sentence_errors(gold, predicted)
        )
    types = sorted({kind for pair in pairs for kind in pair if kind})
    return types, [[pairs[row, column] for column in [*types, None]] for row in [*types, None]]


def word_confusion(result: SplitResult) -> tuple[list[str], list[list[int]]]:
    """Labels, and the number of words by gold label (rows) and predicted label (columns)."""
    pairs = Counter()
    for gold, predicted in zip(result.gold, result.predicted, strict=True):
        pairs.update(zip(gold, predicted, strict=True))
    labels = sorted({tag for pair in pairs for tag in pair}, key=lambda tag: (tag == "O", tag[2:], tag))
    return labels, [[pairs[row, column] for column in labels] for row in labels]


def nervaluate_counts(result: SplitResult) -> dict[str, dict[str, int]]:
    """nervaluate's counts for each of its READINGS: correct, incorrect, partial, missed, spurious.

    It gets spans rather than tags, because it reads an I- without a B- differently.
    """
    both = result.spans
    kinds = sorted({kind for pair in both for side in pair for kind, *_ in side})
    sides = [[as_dicts(pair[side]) for pair in both] for side in (0, 1)]
    if not both or not kinds:
        return {reading: dict.fromkeys(COLUMNS, 0) for reading in READINGS}
    found = Evaluator(*sides, tags=kinds, loader="dict").evaluate()["overall"]
    return {reading: {column: getattr(found[reading], column) for column in COLUMNS} for reading in READINGS}


def as_dicts(entities: Iterable[Entity]) -> list[dict]:
    """Entities as nervaluate takes them, in reading order. There the end is the last word."""
    ordered = sorted(entities, key=lambda entity: entity[1])
    return [{"label": kind, "start": start, "end": end - 1} for kind, start, end in ordered]


def render_kinds(result: SplitResult) -> str:
    """nervaluate's counts beside seqeval's, and the errors by kind, as text."""
    micro = result.scores["span"]["micro"]
    lines = [
        "Kinds of error (nervaluate)",
        "",
        f"{'':<9}" + "".join(f"  {column:>9}" for column in COLUMNS) + "  correct means",
    ]
    for reading, row in nervaluate_counts(result).items():
        numbers = "".join(f"  {row[column]:9,}" for column in COLUMNS)
        lines.append(f"{reading:<9}{numbers}  {READINGS[reading]}")
    lines += [
        "",
        f"seqeval: {micro['correct']:,} correct of {micro['support']:,} gold and {micro['predicted']:,} "
        "predicted entities, as in strict",
        "",
        "Errors by kind (an error of type and end counts in both rows)",
        "",
        *(f"{kind:<10}  {number:6,}" for kind, number in kind_counts(result).items()),
    ]
    return "\n".join(lines) + "\n"
