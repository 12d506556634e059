"""What parameters do: the differences between their values, with intervals."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from .style import BLUE, GREY, MUTED, house_figure

_FRACTIONS = ("accuracy", "error", "agreement", "density")


def effects(
    contrasts: pd.DataFrame, *, measure: str = "test_accuracy", width: float = 7.4, height: float | None = None
) -> Figure:
    """A line a pair of values: the mean difference as a mark, its 95 % interval as a bar, filled where it is told apart
    from noise. Bars that leave the range of the marks by more than its width are cut at the edge.

    Parameters
    ----------
    contrasts : parameter, levels (texts), difference, low, high (NaN for a single pair), significant
    measure : name of the metric; fractions are drawn in percentage points
    """
    scale = 100 if measure.endswith(_FRACTIONS) else 1
    lines = len(contrasts)
    with house_figure(width, height or 1.0 + 0.27 * lines) as (figure, axes):
        ax, names, before = axes[0, 0], [], None
        ax.axvline(0, color=MUTED, lw=0.9)
        for place, row in enumerate(contrasts.itertuples()):
            colour = BLUE if row.significant else GREY
            ends = [scale * row.low, scale * row.high]
            ax.plot(ends, [place] * 2, color=colour, lw=5, alpha=0.25, solid_capstyle="butt")
            ax.plot(scale * row.difference, place, "o", color=colour, mfc=colour if row.significant else "white", ms=6)
            if row.parameter != before and place:
                ax.axhline(place - 0.5, color="#d0d7de", lw=0.8)
            names.append(f"{row.parameter}:  {row.levels}")
            before = row.parameter
        marks = scale * pd.concat([contrasts["difference"], pd.Series([0.0])])
        room = 1.0 * (marks.max() - marks.min()) or 1.0
        low, high = (scale * contrasts[end] for end in ("low", "high"))
        near = max(marks.min() - room, min(low.min(), marks.min())) if low.notna().any() else marks.min()
        far = min(marks.max() + room, max(high.max(), marks.max())) if high.notna().any() else marks.max()
        ax.set_xlim(near - 0.05 * room, far + 0.05 * room)
        ax.set_yticks(range(lines), names)
        ax.set_ylim(lines - 0.5, -0.5)
        ax.grid(axis="y", visible=False)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}".replace("-", "\N{MINUS SIGN}")))
        unit = "difference of " + measure.replace("_", " ") + (", percentage points" if scale == 100 else "")
        ax.set_xlabel(unit)
    return figure
