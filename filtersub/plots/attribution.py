"""Figures of where networks look: class activation maps side by side, and the share of the image that is active."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .axes import house_figure, label_axes
from .style import BLUE, MUTED, VERMILION

_MARKS = ((BLUE, "o"), (VERMILION, "s"))


def activation_maps(maps: pd.DataFrame, threshold: float, *, width: float = 7.4) -> Figure:
    """Images down, settings across: the map over the grey image, and the line where it crosses ``threshold``.

    Parameters
    ----------
    maps : maps.csv of an attribution study: label, image, y, x, value, grey
    """
    labels, images = list(dict.fromkeys(maps["label"])), sorted(maps["image"].unique())
    columns = len(labels) + 1
    with house_figure(width, width / columns * len(images) + 0.4, nrows=len(images), ncols=columns) as (figure, axes):
        for row, image in enumerate(images):
            own = maps[maps["image"] == image]
            grey = _grid(own[own["label"] == labels[0]], "grey")
            axes[row, 0].imshow(grey, cmap="gray", vmin=0, vmax=1)
            for ax, label in zip(axes[row, 1:], labels, strict=True):
                value = _grid(own[own["label"] == label], "value")
                ax.imshow(grey, cmap="gray", vmin=0, vmax=1)
                ax.imshow(value, cmap="viridis", vmin=0, vmax=1, alpha=0.6)
                if value.min() < threshold < value.max():
                    ax.contour(value, [threshold], colors="white", linewidths=1.2)
        for ax in axes.flat:
            ax.set_axis_off()
        for ax, title in zip(axes[0], ["image", *labels], strict=True):
            ax.set_title(title, fontsize=9)
    return figure


def active_shares(summary: pd.DataFrame, *, width: float = 7.4, height: float | None = None) -> Figure:
    """Mean active share of each setting with its interval over images; a panel a threshold, a mark a kind of images.

    Parameters
    ----------
    summary : studies.share_table
    """
    labels = list(dict.fromkeys(summary["label"]))[::-1]
    thresholds = sorted(summary["threshold"].unique())
    kinds = list(dict.fromkeys(summary["images"]))
    height = 1.2 + 0.42 * len(labels) + 0.25 * (len(kinds) > 1) if height is None else height
    with house_figure(width, height, ncols=len(thresholds), sharey=True) as (figure, axes):
        for ax, threshold in zip(axes[0], thresholds, strict=True):
            for number, kind in enumerate(kinds):
                rows = summary[(summary["threshold"] == threshold) & (summary["images"] == kind)]
                colour, marker = _MARKS[number % len(_MARKS)]
                heights = np.array([labels.index(label) for label in rows["label"]]) - 0.2 * number + 0.1
                ends = [rows["share"] - rows["low"], rows["high"] - rows["share"]]
                style = {"color": colour, "marker": marker, "ls": "none", "ms": 5, "capsize": 2.5, "label": kind}
                ax.errorbar(rows["share"], heights, xerr=ends, **style)
            ax.set_title(f"above {threshold:g} of the largest value", fontsize=9, color=MUTED)
            label_axes(ax, "active share of the image", percents="x", zero="x")
        axes[0, 0].set_yticks(range(len(labels)), labels)
        axes[0, 0].set_ylim(-0.6, len(labels) - 0.4)
        if len(kinds) > 1:
            handles, names = axes[0, 0].get_legend_handles_labels()
            figure.legend(handles, names, loc="outside upper right", ncols=len(kinds), fontsize=8)
    return figure


def _grid(rows: pd.DataFrame, column: str) -> np.ndarray:
    return rows.pivot(index="y", columns="x", values=column).to_numpy()
