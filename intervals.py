"""How sure is a score? Intervals by resampling abstracts; two models compared on the same abstracts.

    python intervals.py OUTPUT_DIR/predictions_test.tsv            # 95 % intervals of its scores, as JSON
    python intervals.py A/predictions_test.tsv B/predictions_test.tsv   # A minus B: interval and p-value

Sentences of an abstract repeat its names and share its errors, so abstracts are what is drawn, not sentences.
Counts are made once an abstract; a resample is a product of matrices. Imports metrics.
"""

import argparse
import dataclasses
import itertools
import json
import sys
from collections.abc import Sequence

import numpy as np

from metrics import Evaluation, PredictionFileError, entities, read_some_predictions

LEVEL = 0.95
RESAMPLES = 1000
FEW, MOST = 100, 100_000  # draws: fewer give no percentiles, more no better ones
TRUSTED = 20  # units: the spread of fewer says little
SHUFFLES = 10_000
CHUNK = 500  # draws at a time: memory is CHUNK x abstracts
SUPPORT, PREDICTED, CORRECT = range(3)


@dataclasses.dataclass(frozen=True)
class Counts:
    """Entities by unit and type: `table` is (units, types, 3), of support, predicted and correct."""

    unit: str  # abstracts, or sentences where no abstract is marked
    types: list[str]
    table: np.ndarray


def count(evaluation: Evaluation, types: Sequence[str] | None = None) -> Counts:
    """Count once what every resample adds up, in conlleval's reading of an entity."""
    documents = evaluation.documents
    if not documents or len(set(documents)) < 2:
        unit, numbers = "sentences", np.arange(len(evaluation.gold))
    else:
        unit, numbers = "abstracts", np.unique(documents, return_inverse=True)[1]
    sides = [[entities(tags) for tags in side] for side in (evaluation.gold, evaluation.predicted)]
    types = list(types or sorted({kind for side in sides for spans in side for kind, *_ in spans}))
    places = {kind: number for number, kind in enumerate(types)}
    table = np.zeros((int(numbers.max(initial=-1)) + 1, len(types), 3), dtype=np.int64)
    for number, gold, predicted in zip(numbers, *sides, strict=True):
        for column, spans in ((SUPPORT, gold), (PREDICTED, predicted), (CORRECT, gold & predicted)):
            for kind, *_ in spans:
                table[number, places[kind], column] += 1
    return Counts(unit, types, table)


def f1(totals: np.ndarray) -> np.ndarray:
    """F1 of counts (..., 3); NaN where there is nothing to find and nothing was found."""
    whole = totals[..., SUPPORT] + totals[..., PREDICTED]
    with np.errstate(invalid="ignore", divide="ignore"):
        return 2 * totals[..., CORRECT] / whole


def score_rows(totals: np.ndarray) -> np.ndarray:
    """micro, macro and each type's F1 of totals (draws, types, 3), as (draws, 2 + types).

    The macro average is over the types that occur in a draw.
    """
    by_type = f1(totals)  # (draws, types)
    there = ~np.isnan(by_type)
    macro = np.where(there, by_type, 0).sum(1) / np.maximum(there.sum(1), 1)
    micro = np.nan_to_num(f1(totals.sum(1)))  # 0 where nothing is there at all, as in metrics.py
    return np.column_stack([micro, macro, by_type])


def intervals(evaluation: Evaluation, resamples: int = RESAMPLES, seed: int = 0) -> dict:
    """The 95 % interval of F1, by the percentiles of a bootstrap over abstracts.

    Returns level, unit, units, resamples, and `f1`: for micro, macro and each type: value, low, high.
    """
    counts = count(evaluation)
    units = len(counts.table)
    values = score_rows(counts.table.sum(0, keepdims=True))[0]
    draws = np.concatenate(
        [score_rows(drawn) for drawn in resampled(counts.table, resamples, np.random.default_rng(seed))]
    )
    return {
        "level": LEVEL,
        "unit": counts.unit,
        "units": units,
        "note": notes(counts.unit, units),
        "resamples": resamples,
        "f1": named(counts.types, values, *ends(draws)),
    }


def notes(unit: str, units: int) -> str:
    """What a reader of an interval must know; empty if nothing."""
    told = []
    if unit == "sentences":
        told.append("no abstracts are marked: sentences were drawn, and the interval is too narrow")
    if units < TRUSTED:
        told.append(f"only {units} {unit}: too few for an interval to be trusted")
    return "; ".join(told)


def resampled(table: np.ndarray, resamples: int, generator: np.random.Generator):
    """Totals (draws, types, 3) of as many units drawn with replacement, some draws at a time."""
    units = len(table)
    flat = table.reshape(units, -1).astype(float)  # whole numbers, in the type that multiplies fast
    for start in range(0, resamples, CHUNK):
        drawn = generator.multinomial(units, np.full(units, 1 / units), size=min(CHUNK, resamples - start))
        yield (drawn.astype(float) @ flat).reshape(len(drawn), *table.shape[1:])


def ends(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end of each column's interval."""
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail], axis=0)
    return low, high


def named(types: Sequence[str], values: np.ndarray, lows: np.ndarray, highs: np.ndarray) -> dict:
    return {
        name: {"value": float(value), "low": float(low), "high": float(high)}
        for name, value, low, high in zip(["micro", "macro", *types], values, lows, highs, strict=True)
    }


def compare(
    one: Evaluation, other: Evaluation, resamples: int = RESAMPLES, shuffles: int = SHUFFLES, seed: int = 0
) -> dict:
    """F1 of `one` minus F1 of `other` on the same text: difference, 95 % interval and p-value.

    The interval is by a bootstrap that draws abstracts for both at once. The p-value is by approximate
    randomization: how often, if the two models' answers were exchanged abstract by abstract at random, the
    difference would be as large as it is (two-sided).

    Raises:
        ValueError: the two are not of the same text and gold tags.
    """
    one, other = on_same_text(one, other)
    generator = np.random.default_rng(seed)
    kinds = sorted({*count(one).types, *count(other).types})
    pair = [count(evaluation, kinds) for evaluation in (one, other)]
    both = np.stack([counts.table for counts in pair], axis=1)  # (units, 2, types, 3)
    values = difference(both.sum(0, keepdims=True))[0]
    draws = np.concatenate([difference(drawn) for drawn in resampled(both, resamples, generator)])
    extreme = sum(
        (np.abs(difference(swapped)) >= np.abs(values) - 1e-12).sum(0)
        for swapped in exchanged(both, shuffles, generator)
    )
    rows = named(kinds, values, *ends(draws))
    for row, times in zip(rows.values(), extreme, strict=True):
        row["p"] = float((times + 1) / (shuffles + 1))
    return {
        "level": LEVEL,
        "unit": pair[0].unit,
        "units": len(both),
        "note": notes(pair[0].unit, len(both)),
        "resamples": resamples,
        "shuffles": shuffles,
        "f1": [intervals(evaluation, resamples, seed)["f1"]["micro"] for evaluation in (one, other)],
        "difference": rows,
    }


def difference(totals: np.ndarray) -> np.ndarray:
    """Rows of scores of the first less those of the second, of totals (draws, 2, types, 3)."""
    first, second = score_rows(totals[:, 0]), score_rows(totals[:, 1])
    return np.nan_to_num(first) - np.nan_to_num(second)


def exchanged(both: np.ndarray, shuffles: int, generator: np.random.Generator):
    """Totals (shuffles, 2, types, 3) with the two models' units exchanged at random, some at a time."""
    units = len(both)
    sums = both.sum(0)  # (2, types, 3)
    gap = (
        (both[:, 1] - both[:, 0]).reshape(units, -1).astype(float)
    )  # what the first gains where it is exchanged
    for start in range(0, shuffles, CHUNK):
        swap = generator.integers(0, 2, size=(min(CHUNK, shuffles - start), units))
        moved = (swap.astype(float) @ gap).reshape(len(swap), *sums.shape[1:])
        yield np.stack([sums[0] + moved, sums[1] - moved], axis=1)


def on_same_text(one: Evaluation, other: Evaluation) -> tuple[Evaluation, Evaluation]:
    """Both with the abstracts of the one that marks them.

    Raises:
        ValueError: their words, gold tags or abstracts differ; says where first.
    """
    if len(one.words) != len(other.words):
        raise ValueError(f"found {len(other.words)} sentences for {len(one.words)}; expected the same text")
    for number, (words, others, gold, other_gold) in enumerate(
        zip(one.words, other.words, one.gold, other.gold, strict=True), start=1
    ):
        if words != others:
            raise ValueError(f"sentence {number} has other words; expected two predictions of one text")
        if gold != other_gold:
            raise ValueError(f"sentence {number} has other gold tags; expected two predictions of one gold")
    documents = one.documents or other.documents
    if one.documents and other.documents and beginnings(one.documents) != beginnings(other.documents):
        raise ValueError("abstracts end after other sentences; expected two predictions of one corpus")
    return dataclasses.replace(one, documents=documents), dataclasses.replace(other, documents=documents)


def beginnings(documents: Sequence[int]) -> list[bool]:
    """Whether each sentence but the first begins an abstract."""
    return [before != after for before, after in itertools.pairwise(documents)]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Intervals of a prediction file, or of two's difference.")
    parser.add_argument("file", help="predictions_test.tsv of an output folder")
    parser.add_argument("other", nargs="?", help="the same of another run or model, to be compared")
    parser.add_argument("--resamples", type=int, default=RESAMPLES)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    try:
        if not FEW <= given.resamples <= MOST or given.seed < 0:
            raise ValueError(
                f"found --resamples {given.resamples} --seed {given.seed}; expected {FEW} to {MOST:,}, and 0 "
                "or more"
            )
        paths = [path for path in (given.file, given.other) if path is not None]
        one, *others = [read_some_predictions(path) for path in paths]
        options = {"resamples": given.resamples, "seed": given.seed}
        try:
            result = compare(one, others[0], **options) if others else intervals(one, **options)
        except ValueError as error:
            raise ValueError(f"{' and '.join(paths)}: {error}") from None
    except (PredictionFileError, ValueError) as error:
        print(f"intervals.py: error: {error}", file=sys.stderr)
        return 2
    if result["note"]:
        print(f"intervals.py: note: {result['note']}", file=sys.stderr)
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
