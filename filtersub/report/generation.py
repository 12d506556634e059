"""What a report shows of generation: distances beside trained parameters, samples of every setting side by side."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from ..collect import Collection
from ..generation.record import KIND
from ..generation.tables import generation_sentence, generation_table, judged, method_table
from ..plots.generation import distance_vs_parameters, samples_side_by_side

_HEADINGS = ["Data", "Setting", "Seeds", "Distance", "Lowest to highest", "Kernel distance", "Trained", "Saved", "Step"]


def generation_content(found: Collection) -> dict[str, Any] | None:
    """Title, text, figures, headings, rows and note of the section; None where no run of generation was judged."""
    runs = judged(generation_table(found.of_kind(KIND)))
    if runs.empty:
        return None
    return {
        "title": "How close generated images come to real ones",
        "text": generation_sentence(runs),
        "figures": _figures(runs),
        "headings": _HEADINGS,
        "rows": [_row(row) for row in method_table(runs).to_dict("records")],
        "note": (
            "Distances are Fréchet distances in the features that the text names, means over seeds; only Inception's "
            "is called FID. The kernel distance has no bias of sample size. Saved: bytes of what was trained. Step: "
            "seconds."
        ),
    }


def _figures(runs: pd.DataFrame) -> list[tuple[Any, str]]:
    figures = [(_drawn(distance_vs_parameters, runs), "Bars are the range over seeds; dashed: real images among them.")]
    for data, own in runs.groupby("data", sort=False):
        first = own[own["seed"] == own["seed"].min()]
        caption = f"{data}, seed {first['seed'].iloc[0]}: the same place in each panel is the same noise."
        figures.append((_drawn(samples_side_by_side, first), caption))
    return figures


def _row(row: dict[str, Any]) -> list[str]:
    step = row.get("seconds_per_step")
    return [
        row["data"],
        row["label"],
        ", ".join(map(str, row["seeds"])),
        f"{row['frechet']:.3g}",
        f"{row['lowest']:.3g} to {row['highest']:.3g}",
        f"{row['kernel']:.3g}",
        f"{row['trainable']:,}",
        f"{row['saved_bytes']:,.0f}",
        "–" if step is None or step != step else f"{step:.3f}",
    ]


def _drawn(draw: Any, runs: pd.DataFrame) -> Any:
    def at(**size: float) -> Figure:
        return draw(runs, **size)

    return at
