"""How sure a mean over seeds is, whether two settings differ beyond noise, and which settings nothing else beats."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import check_name
from .percentages import NBSP, hundredths

LEVEL = 0.95
#: Name -> what a reader is told of it.
INTERVALS = {"t": f"95{NBSP}% t interval", "bootstrap": f"95{NBSP}% bootstrap interval"}
TEST = "Welch's t test"
PAIRED_TEST = "paired t test"
SIGNIFICANT = 0.05
_RESAMPLES = 10_000
_ROUNDING = 5e-7  # of differences of fractions, which were stored in float32


def points(value: float, sign: str = "+") -> str:
    """A difference of fractions in percentage points; ``sign=""`` leaves out the plus.

    >>> points(0.0123), points(0.0123, sign="")
    ('+1.2', '1.2')
    """
    return hundredths(value, signed=sign == "+")


@dataclass(frozen=True)
class Difference:
    """The new mean less the old one.

    Attributes
    ----------
    low, high : ends of the 95 % interval by the test's t distribution; NaN where nothing is known of the spread
    p_value : two-sided; NaN where there was no test
    """

    difference: float
    low: float
    high: float
    p_value: float

    @property
    def tested(self) -> bool:
        return not math.isnan(self.p_value)


def interval(values: Sequence[float], kind: str = "t", *, bounds: tuple[float, float] | None = None) -> tuple:
    """(low, high): where the mean over all seeds lies with 95 % confidence, from the values (n,) of a few of them.

    Parameters
    ----------
    values : one number a seed; a single one has no spread, its interval is (NaN, NaN)
    kind : "t": Student's, exact for normal values however few they are, so wide for two or three; "bootstrap":
        percentiles of the means of 10,000 resamples (Efron, 1979; seed fixed), narrower than it should be below
        about ten values
    bounds : what the mean cannot leave, (0, 1) for an accuracy; the interval is cut there, which keeps its confidence

    Raises FiltersubError for another kind.

    >>> [round(end, 2) for end in interval([1.0, 2.0, 3.0])]
    [-0.48, 4.48]
    """
    check_name("interval", kind, INTERVALS)
    numbers = np.asarray(values, dtype=float)
    if len(numbers) < 2:
        return math.nan, math.nan
    if kind == "bootstrap":
        drawn = np.random.default_rng(0).choice(numbers, size=(_RESAMPLES, len(numbers)))
        low, high = np.quantile(drawn.mean(axis=1), [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    elif np.ptp(numbers) == 0:
        low = high = numbers[0]
    else:
        found = _student(*_mean_and_error(numbers), len(numbers) - 1)
        low, high = found.low, found.high
    lowest, highest = bounds or (-math.inf, math.inf)
    return float(max(low, lowest)), float(min(high, highest))


def accuracy_row(values: Sequence[float], kind: str = "t") -> dict[str, float]:
    """The columns of a table of accuracies, from one number a seed: ``test_accuracy`` (their mean), ``lowest``,
    ``highest``, and ``low`` and ``high``, the ends of ``interval``."""
    low, high = interval(values, kind, bounds=(0.0, 1.0))
    ends = {"lowest": min(values), "highest": max(values), "low": low, "high": high}
    return {"test_accuracy": float(np.mean(values)), **ends}


def difference(new: Sequence[float], old: Sequence[float]) -> Difference:
    """The mean of ``new`` less that of ``old``, by Welch's unequal-variances t test (Biometrika 34, 1947).

    Where neither side spreads at all, p is 1 for equal means and 0 otherwise: what repeats exactly has no noise.
    """
    ours, theirs = np.asarray(new, dtype=float), np.asarray(old, dtype=float)
    gap = float(ours.mean() - theirs.mean())
    if len(ours) < 2 or len(theirs) < 2:
        return Difference(gap, math.nan, math.nan, math.nan)
    # The squared standard errors of both means.
    one, other = (float(side.var(ddof=1)) / len(side) for side in (ours, theirs))
    total = one + other
    if total == 0:
        return Difference(gap, gap, gap, 1.0 if gap == 0 else 0.0)
    freedom = 1 / ((one / total) ** 2 / (len(ours) - 1) + (other / total) ** 2 / (len(theirs) - 1))
    return _student(gap, math.sqrt(total), freedom)


def paired_difference(gaps: Sequence[float]) -> Difference:
    """The mean of the differences ``gaps`` (n,) of pairs, by the paired t test (Student, Biometrika 6, 1908).

    A single pair allows no test, nor do pairs that all differ by the same: accuracies over few images are coarse, so
    equal differences may be chance. Pairs without any difference have p = 1.

    >>> found = paired_difference([1.0, 2.0, 3.0])
    >>> round(found.low, 2), round(found.high, 2), round(found.p_value, 3)
    (-0.48, 4.48, 0.074)
    """
    values = np.asarray(gaps, dtype=float)
    mean = float(values.mean())
    if len(values) < 2:
        return Difference(mean, math.nan, math.nan, math.nan)
    peak = np.abs(values).max()
    if np.ptp(values) <= (_ROUNDING if 100 * _ROUNDING < peak <= 1 else 1e-9 * peak):
        return Difference(mean, mean, mean, 1.0 if mean == 0 else math.nan)
    return _student(*_mean_and_error(values), len(values) - 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm, Scand. J. Statistics 6, 1979); NaN, which tests nothing, stays.

    >>> holm([0.01, 0.04, float("nan"), 0.03])
    [0.03, 0.06, nan, 0.06]
    """
    order = [n for n in np.argsort(p_values, kind="stable") if not math.isnan(p_values[n])]
    corrected, largest = [float(each) for each in p_values], 0.0
    for place, n in enumerate(order):
        largest = max(largest, min(1.0, corrected[n] * (len(order) - place)))
        corrected[n] = largest
    return corrected


def on_pareto_front(cost: Sequence[float], merit: Sequence[float]) -> list[bool]:
    """Whether no other point costs at most as much and is worth at least as much, and one of the two strictly.

    >>> on_pareto_front([1, 2, 3, 3], [0.5, 0.4, 0.9, 0.9])
    [True, False, True, True]
    """
    costs, merits = np.asarray(cost, dtype=float), np.asarray(merit, dtype=float)
    front = []
    for own_cost, own_merit in zip(costs, merits, strict=True):
        no_worse = (costs <= own_cost) & (merits >= own_merit)
        better = (costs < own_cost) | (merits > own_merit)
        front.append(not bool((no_worse & better).any()))
    return front


def _mean_and_error(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))


def _student(mean: float, standard_error: float, freedom: float) -> Difference:
    """The t test of a mean against 0, by the t distribution of scipy.special: scipy.stats takes a second to import."""
    from scipy.special import stdtr, stdtrit

    half = float(stdtrit(freedom, 0.5 + LEVEL / 2)) * standard_error
    p_value = 2 * float(stdtr(freedom, -abs(mean) / standard_error))
    return Difference(mean, mean - half, mean + half, p_value)
