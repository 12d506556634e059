"""Numbers as readers of a report see them: percentages, points, amounts in their unit."""

import pandas as pd

from ..intervals import points
from ..percentages import NBSP, percentage


def percent(value: float) -> str:
    """Two significant digits below one percent, one decimal above."""
    return percentage(value) if abs(value) >= 0.01 or value == 0 else f"{100 * value:.2g}{NBSP}%"


def span(low: float, high: float) -> str:
    """``89.5 to 90.5 %``."""
    return f"{100 * low:.1f} to {percent(high)}"


def amount(value: float, measure: str, signed: bool = False) -> str:
    """A value of a measure in its unit; differences (``signed``) of fractions are percentage points."""
    if pd.isna(value):
        return "–"
    if measure.endswith(" parameters"):
        return f"{value:+,.0f}" if signed else f"{value:,.0f}"
    if measure.endswith(("accuracy", "error", "agreement", "density")):
        return points(value) if signed else percent(value)
    return (f"{value:+.3g}" if signed else f"{value:.4g}").replace("-", "\N{MINUS SIGN}")
