"""Rules that read a learning rate off a range test's curve, or say why there is none and what to change.

    suggest(rates, losses, smoothing=0.8)

Functions of arrays; lr_range_test.py draws and prints what they say. Imports nothing of ours.

Which rule for an encoder with a new head? The steepest descent, where the head learns that most words are O,
the middle of the valley and a tenth of the minimum come out two to six times too low (benchmarks/NOTES.md),
and the minimum itself moves by a factor of three with the noise of its flat floor. The knee stands where the
curve is still sloped, so it hardly moves, and it is what trained best.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

RULES = {
    "knee": "the lowest rate at which the loss has made 90 % of its fall",
    "steepest": "where the loss falls fastest, by the logarithm of the rate",
    "minimum/10": "a tenth of the rate with the lowest loss",
    "valley": "the middle of the longest descent, as fastai's valley",
}
RECOMMENDED = "knee"
FALL = 0.9
FEWEST_POINTS = 20
SMALLEST_FALL = 0.05  # of the loss at the start
CEILING = 1.25  # times the first loss: what is above has diverged, how far does not matter
NOISE = 3.0  # a fall must be this many times the spread of the losses about their smoothed curve
EDGES = (
    0.05,
    0.85,
)  # a knee before or after these parts of the sweep says that the sweep began or ended too soon


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """The rate by each rule, the recommended one (None if there is none), and why."""

    rates: dict[str, float]
    recommended: float | None
    why: str


def suggest(rates: Sequence[float], losses: Sequence[float], smoothing: float) -> Suggestion:
    """Read the curve, up to its first loss that is not finite, by each of the RULES.

    Args:
        rates: learning rate of each step, rising. (steps,)
        losses: loss of each step. (steps,)
        smoothing: as for `smooth`.
    """
    whole = len(losses)
    rates, losses = finite_part(rates, losses)
    if len(losses) < FEWEST_POINTS:
        diverged = len(losses) < whole or losses[-1] > CEILING * losses[0]
        change = "lower --max_lr, or --min_lr too" if diverged else "raise --num_steps"
        return Suggestion(
            {},
            None,
            f"found {len(losses)} points{' before the loss diverged' if diverged else ''}; expected at least "
            f"{FEWEST_POINTS}: {change}",
        )
    smoothed = smooth(losses, smoothing)
    lowest = int(smoothed.argmin())
    fall = smoothed[0] - smoothed[lowest]
    if fall <= max(SMALLEST_FALL * abs(smoothed[0]), NOISE * spread((losses - smoothed)[: lowest + 1])):
        return Suggestion(
            {},
            None,
            f"the loss falls by no more than its noise (from {smoothed[0]:.3g} to {smoothed[lowest]:.3g}): "
            "lower --min_lr if it rises, raise --max_lr or --num_steps if it is flat, and look at the labels",
        )
    knee = int((smoothed <= smoothed[0] - FALL * fall).argmax())
    found = {
        "knee": rates[knee],
        "steepest": rates[steepest(rates, smoothed, lowest)],
        "minimum/10": rates[lowest] / 10,
        "valley": rates[valley(smoothed)],
    }
    found = {rule: float(rate) for rule, rate in found.items()}
    if knee < EDGES[0] * len(losses):
        return Suggestion(found, None, "the loss is falling from the first step on: lower --min_lr")
    if knee > EDGES[1] * len(losses) and smoothed[-1] < smoothed[lowest] + (1 - FALL) * fall:
        return Suggestion(found, None, "the loss is still falling at the last step: raise --max_lr")
    return Suggestion(found, found[RECOMMENDED], RULES[RECOMMENDED])


def finite_part(rates: Sequence[float], losses: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Both up to the first loss that is not finite: what follows a NaN is no longer the model's."""
    rates, losses = np.asarray(rates, float), np.asarray(losses, float)
    end = next((step for step, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
    return rates[:end], losses[:end]


def smooth(losses: Sequence[float], smoothing: float) -> np.ndarray:
    """Mean of the moving averages from the left and from the right, so that the curve has no lag.

    A one-way average with weight 0.9 lags by nine steps: half a decade of a usual sweep, and every rule's
    rate comes out that much too high. Losses far above the first one are lowered to a ceiling before: the
    average from the right would carry an explosion back to where the loss was still falling.
    """
    losses = np.asarray(losses, float)
    if len(losses):
        losses = np.minimum(losses, CEILING * abs(losses[0]))
    return (moving_average(losses, smoothing) + moving_average(losses[::-1], smoothing)[::-1]) / 2


def moving_average(losses: np.ndarray, smoothing: float) -> np.ndarray:
    """Exponentially weighted mean of all values so far; `smoothing` is the weight of the past."""
    average, means = 0.0, []
    for step, loss in enumerate(losses, start=1):
        average = smoothing * average + (1 - smoothing) * loss
        means.append(average / (1 - smoothing**step))
    return np.array(means)


def spread(residuals: np.ndarray) -> float:
    """Standard deviation by the median, which a few losses that explode do not move."""
    return 1.4826 * float(np.median(np.abs(residuals - np.median(residuals))))


def steepest(rates: np.ndarray, smoothed: np.ndarray, lowest: int) -> int:
    """The step of the steepest descent before the lowest point, but the first, which has one neighbour."""
    slopes = np.gradient(smoothed, np.log(rates))
    return 1 + int(slopes[1 : max(lowest, 1) + 1].argmin())


def valley(smoothed: np.ndarray) -> int:
    """The step in the middle of the longest descent: a longest decreasing subsequence, the earliest to end.

    As in fastai the descent is taken to begin its own length before its end, and to be cut in three.
    """
    lengths = np.ones(len(smoothed), int)
    for step in range(1, len(smoothed)):
        longer = lengths[:step][smoothed[:step] > smoothed[step]]
        lengths[step] = 1 + (longer.max() if len(longer) else 0)
    end = int(lengths.argmax())
    third = lengths[end] / 3
    return max(end - int(lengths[end]), 0) + int(third) + int(third / 2)
