"""Rules that read a learning rate from the curve of a range test, or say why not and what to change.

    suggest(rates, losses, smoothing=0.8)

The recommended rule is the knee. For an encoder with a new head, the steepest descent (where the head learns
that most words are O), the middle of the valley and a tenth of the minimum suggest rates two to six times too
low (benchmarks/NOTES.md). The minimum itself moves by a factor of three with the noise of its flat floor. The
curve still slopes at the knee, so noise hardly moves it, and its rate trained best.
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
CEILING = 1.25  # times the first loss; a loss above it has diverged, no matter how far
NOISE = 3.0  # a fall must be this many times the spread of the losses around their smoothed curve
# A knee before the first or after the second share of the steps: the sweep begins too high or ends too low.
EDGES = (0.05, 0.85)


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """The rate of each rule, the recommended rate (None if there is none), and the reason."""

    rates: dict[str, float]
    recommended: float | None
    why: str


def suggest(rates: Sequence[float], losses: Sequence[float], smoothing: float) -> Suggestion:
    """Apply each of the RULES to the curve, up to the first loss that is not finite.

    Args:
        rates: rising learning rate of each step. (steps,)
        losses: loss of each step. (steps,)
        smoothing: as for `smooth`.
    """
    is_cut = not np.isfinite(losses).all()
    rates, losses = finite_part(rates, losses)
    if len(losses) < FEWEST_POINTS:
        return Suggestion({}, None, too_few_points(losses, is_cut))
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


def too_few_points(losses: np.ndarray, is_cut: bool) -> str:
    """Why a short curve gives no rate, and what to change. `is_cut`: a loss that is not finite follows."""
    diverged = is_cut or losses[-1] > CEILING * losses[0]
    found = f"found {len(losses)} points{' before the loss diverged' if diverged else ''}"
    change = "lower --max_lr, or --min_lr too" if diverged else "raise --num_steps"
    return f"{found}; expected at least {FEWEST_POINTS}: {change}"


def finite_part(rates: Sequence[float], losses: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Rates and losses up to the first loss that is not finite. After a NaN the weights mean nothing.

    A step that fp16 skips, because a gradient is too large for it, repeats its rate. Only the first counts.
    """
    rates, losses = np.asarray(rates, float), np.asarray(losses, float)
    end = next((step for step, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
    rises = np.diff(rates[:end], prepend=-math.inf) > 0
    return rates[:end][rises], losses[:end][rises]


def smooth(losses: Sequence[float], smoothing: float) -> np.ndarray:
    """Mean of the moving averages from the left and from the right, so that the curve has no lag.

    A one-way average with weight 0.9 lags by nine steps. That is half a decade of a usual sweep, and the rate
    of every rule would be that much too high. Losses far above the first one are cut to a ceiling first:
    otherwise the average from the right would carry an explosion back to where the loss was still falling.
    """
    losses = np.asarray(losses, float)
    if len(losses):
        losses = np.minimum(losses, CEILING * abs(losses[0]))
    return (moving_average(losses, smoothing) + moving_average(losses[::-1], smoothing)[::-1]) / 2


def moving_average(losses: np.ndarray, smoothing: float) -> np.ndarray:
    """Exponentially weighted mean of the values so far; `smoothing` is the weight of the past."""
    average, means = 0.0, []
    for step, loss in enumerate(losses, start=1):
        average = smoothing * average + (1 - smoothing) * loss
        means.append(average / (1 - smoothing**step))
    return np.array(means)


def spread(residuals: np.ndarray) -> float:
    """Standard deviation, estimated by the median so that a few exploding losses do not change it."""
    return 1.4826 * float(np.median(np.abs(residuals - np.median(residuals))))


def steepest(rates: np.ndarray, smoothed: np.ndarray, lowest: int) -> int:
    """The step of the steepest descent up to the lowest point, without the first, which has one neighbour."""
    slopes = np.gradient(smoothed, np.log(rates))
    return 1 + int(slopes[1 : max(lowest, 1) + 1].argmin())


def valley(smoothed: np.ndarray) -> int:
    """The step in the middle of the longest descent: of the longest decreasing subsequences the first to end.

    As in fastai, the descent begins its own length before its end, and its middle third is halved.
    """
    lengths = np.ones(len(smoothed), int)
    for step in range(1, len(smoothed)):
        longer = lengths[:step][smoothed[:step] > smoothed[step]]
        lengths[step] = 1 + (longer.max() if len(longer) else 0)
    end = int(lengths.argmax())
    third = lengths[end] / 3
    return max(end - int(lengths[end]), 0) + int(third) + int(third / 2)
