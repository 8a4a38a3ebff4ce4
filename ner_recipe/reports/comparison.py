"""Two models on the same text: the difference of their F1, its interval and its p-value.

python -m ner_recipe.reports A/predictions_test.tsv B/predictions_test.tsv
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from ner_recipe.reports.intervals import (
    CHUNK,
    LEVEL,
    RESAMPLES,
    count,
    ends,
    named,
    notes,
    resampled,
    score_rows,
)
from ner_recipe.reports.result import SplitResult

SHUFFLES = 10_000


def compare(
    one: SplitResult,
    other: SplitResult,
    resamples: int = RESAMPLES,
    shuffles: int = SHUFFLES,
    seed: int = 0,
) -> dict:
    """F1 of `one` minus F1 of `other` on the same text: difference, 95 % interval and p-value.

    The interval comes from a bootstrap that draws the same documents for both. The p-value comes from
    approximate randomization: the share of random exchanges of the two models' answers, document by document,
    whose difference is at least as large (two-sided).

    Raises:
        ValueError: the two are not of the same text and gold tags.
    """
    documents = shared_documents(one, other)
    generator = np.random.default_rng(seed)
    kinds = sorted({name for result in (one, other) for name in count(result.spans, documents).types})
    pair = [count(result.spans, documents, kinds) for result in (one, other)]
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
        "note": notes(pair[0].unit, len(both), documents),
        "resamples": resamples,
        "shuffles": shuffles,
        "difference": rows,
    }


def difference(totals: np.ndarray) -> np.ndarray:
    """Rows of scores of the first minus those of the second, from totals (draws, 2, types, 3)."""
    first, second = score_rows(totals[:, 0]), score_rows(totals[:, 1])
    return np.nan_to_num(first) - np.nan_to_num(second)


def exchanged(both: np.ndarray, shuffles: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Totals (shuffles, 2, types, 3) with the two models' units exchanged at random, some at a time."""
    units = len(both)
    sums = both.sum(0)  # (2, types, 3)
    # What the first model gains where the two are exchanged: (units, types x 3).
    gap = (both[:, 1] - both[:, 0]).reshape(units, -1).astype(float)
    for start in range(0, shuffles, CHUNK):
        swap = generator.integers(0, 2, size=(min(CHUNK, shuffles - start), units))
        moved = (swap.astype(float) @ gap).reshape(len(swap), *sums.shape[1:])
        yield np.stack([sums[0] + moved, sums[1] - moved], axis=1)


def shared_documents(one: SplitResult, other: SplitResult) -> Sequence[int] | None:
    """The documents of both, or of the one that knows them.

    Raises:
        ValueError: words, gold tags or documents differ; says where first.
    """
    if len(one.words) != len(other.words):
        raise ValueError(f"found {len(one.words)} and {len(other.words)} sentences; expected the same text")
    for number, (words, others, gold, other_gold) in enumerate(
        zip(one.words, other.words, one.gold, other.gold, strict=True), start=1
    ):
        if words != others:
            raise ValueError(f"the words of sentence {number} differ; expected two predictions of one text")
        if gold != other_gold:
            raise ValueError(f"the gold tags of sentence {number} differ; expected the same gold tags")
    if one.documents and other.documents and beginnings(one.documents) != beginnings(other.documents):
        raise ValueError("documents end after different sentences; expected two predictions of one corpus")
    return one.documents or other.documents


def beginnings(documents: Sequence[int]) -> list[bool]:
    """Whether each sentence but the first starts a document."""
    return [before != after for before, after in itertools.pairwise(documents)]
