"""How certain a score is: 95 % intervals by a bootstrap over documents.

    bootstrap(spans, documents)["f1"]["micro"]      # {"value": ..., "low": ..., "high": ...}

Sentences of one abstract repeat its names and its errors, so whole documents are drawn, not sentences.
Entities are counted once per document; a resample is a matrix product.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from metrics import Spans

LEVEL = 0.95
RESAMPLES = 1000
TRUSTED = 20  # fewer units say little about the spread
CHUNK = 500  # draws at a time: memory is CHUNK x documents
SUPPORT, PREDICTED, CORRECT = range(3)


@dataclasses.dataclass(frozen=True)
class Counts:
    """Entities by unit and type. `table` is (units, types, 3): support, predicted and correct."""

    unit: str  # documents, or sentences where documents are unknown
    types: list[str]
    table: np.ndarray


def count(spans: Spans, documents: Sequence[int] | None, types: Sequence[str] | None = None) -> Counts:
    """Count what every resample adds up."""
    if not documents or len(set(documents)) < 2:
        unit, numbers = "sentences", np.arange(len(spans))
    else:
        unit, numbers = "documents", np.unique(documents, return_inverse=True)[1]
    types = list(types or sorted({kind for pair in spans for side in pair for kind, *_ in side}))
    places = {kind: number for number, kind in enumerate(types)}
    table = np.zeros((int(numbers.max(initial=-1)) + 1, len(types), 3), dtype=np.int64)
    for number, (gold, predicted) in zip(numbers, spans, strict=True):
        for column, side in ((SUPPORT, gold), (PREDICTED, predicted), (CORRECT, gold & predicted)):
            for kind, *_ in side:
                table[number, places[kind], column] += 1
    return Counts(unit, types, table)


def f1(totals: np.ndarray) -> np.ndarray:
    """F1 from counts (..., 3); NaN where nothing was to be found and nothing was found."""
    whole = totals[..., SUPPORT] + totals[..., PREDICTED]
    with np.errstate(invalid="ignore", divide="ignore"):
        return 2 * totals[..., CORRECT] / whole


def score_rows(totals: np.ndarray) -> np.ndarray:
    """micro, macro and each type's F1 from totals (draws, types, 3), as (draws, 2 + types).

    The macro average is over the types that occur in a draw.
    """
    by_type = f1(totals)  # (draws, types)
    there = ~np.isnan(by_type)
    macro = np.where(there, by_type, 0).sum(1) / np.maximum(there.sum(1), 1)
    micro = np.nan_to_num(f1(totals.sum(1)))  # 0 where there is nothing at all, as in metrics.py
    return np.column_stack([micro, macro, by_type])


def bootstrap(
    spans: Spans, documents: Sequence[int] | None, resamples: int = RESAMPLES, seed: int = 0
) -> dict:
    """The 95 % intervals of F1, from percentiles of a bootstrap over documents.

    Returns:
        level, unit, units, note, resamples, and `f1`: value, low and high for micro, macro and each type.
    """
    counts = count(spans, documents)
    units = len(counts.table)
    values = score_rows(counts.table.sum(0, keepdims=True))[0]
    generator = np.random.default_rng(seed)
    draws = np.concatenate([score_rows(drawn) for drawn in resampled(counts.table, resamples, generator)])
    return {
        "level": LEVEL,
        "unit": counts.unit,
        "units": units,
        "note": notes(counts.unit, units, documents),
        "resamples": resamples,
        "f1": named(counts.types, values, *ends(draws)),
    }


def notes(unit: str, units: int, documents: Sequence[int] | None) -> str:
    """What limits the interval, for the reader; empty if nothing does."""
    found = []
    if unit == "sentences":
        reason = "there is only one document" if documents else "documents are unknown"
        found.append(f"{reason}, so sentences were drawn and the interval is too narrow")
    if units < TRUSTED:
        found.append(f"{units} {unit} are too few for a reliable interval")
    return "; ".join(found)


def resampled(table: np.ndarray, resamples: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Totals (draws, types, 3) of as many units, drawn with replacement, some draws at a time."""
    units = len(table)
    flat = table.reshape(units, -1).astype(float)  # floats multiply faster than integers
    for start in range(0, resamples, CHUNK):
        drawn = generator.multinomial(units, np.full(units, 1 / units), size=min(CHUNK, resamples - start))
        yield (drawn.astype(float) @ flat).reshape(len(drawn), *table.shape[1:])


def ends(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end of each column's interval."""
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail], axis=0)
    return low, high


def named(types: Sequence[str], values: np.ndarray, lows: np.ndarray, highs: np.ndarray) -> dict:
    """value, low and high by name: micro, macro and the types."""
    return {
        name: {"value": float(value), "low": float(low), "high": float(high)}
        for name, value, low, high in zip(["micro", "macro", *types], values, lows, highs, strict=True)
    }


def in_words(intervals: dict) -> str:
    """The interval of micro F1 as one line, with what limits it."""
    micro, note = intervals["f1"]["micro"], intervals["note"]
    drawn = f"{intervals['resamples']:,} bootstrap draws of {intervals['units']:,} {intervals['unit']}"
    return f"micro F1 {micro['low']:.4f} to {micro['high']:.4f} ({drawn}{'; ' * bool(note)}{note})"
