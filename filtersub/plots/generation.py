"""Figures of generation: distance against trained parameters, samples side by side."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from PIL import Image

from .style import BLUE, GREEN, GREY, INK, MUTED, VERMILION, house_figure, short_count

_METHODS = {"none": (GREY, "s"), "filter-subspace": (BLUE, "o"), "lora": (GREEN, "P"), "full": (INK, "^")}


def distance_vs_parameters(runs: pd.DataFrame, *, width: float = 7.4, height: float = 4.0) -> Figure:
    """Fréchet distance (logarithmic) against trained parameters, a panel a data set; bars are the range over seeds.

    Parameters
    ----------
    runs : data, label, method, trainable, frechet, floor_frechet, distance_name; optional training_frechet
    """
    names = list(dict.fromkeys(runs["data"]))
    with house_figure(width, height, ncols=len(names)) as (figure, axes):
        for ax, name in zip(axes[0], names, strict=True):
            own = runs[runs["data"] == name]
            for (label, method), group in own.groupby(["label", "method"], sort=False):
                colour, mark = _METHODS.get(method, (VERMILION, "D"))
                mean, low, high = (float(group["frechet"].agg(how)) for how in ("mean", "min", "max"))
                place = max(1, int(group["trainable"].iloc[0]))
                ax.errorbar(place, mean, [[mean - low], [high - mean]], fmt=mark, color=colour, capsize=3)
                right = place > 0.1 * own["trainable"].max()
                shift, side = (-7, "right") if right else (7, "left")
                ax.annotate(label, (place, mean), (shift, 4), textcoords="offset points", ha=side, fontsize=8)
            for column, words in (("floor_frechet", "halves of real"), ("training_frechet", "real training images")):
                if column in own and own[column].notna().any():
                    ax.axhline(float(own[column].iloc[0]), color=MUTED, lw=0.9, ls=(0, (4, 3)))
                    place = (0.02, float(own[column].iloc[0]))
                    ax.annotate(words, place, xycoords=("axes fraction", "data"), va="bottom", fontsize=7.5)
            ax.set_xscale("symlog", linthresh=100)
            ax.set_yscale("log")
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
            ax.set_title(name, fontsize=10)
            ax.set_xlabel("trained parameters")
            ax.set_ylabel(own["distance_name"].iloc[0])
    return figure


def samples_side_by_side(runs: pd.DataFrame, *, width: float = 7.4, columns: int = 3) -> Figure:
    """Each setting's grid of samples; the same place is the same noise in all of them.

    Parameters
    ----------
    runs : label, samples (file of the grid), of one data set and one seed
    """
    chosen = runs.drop_duplicates("label")
    rows = -(-len(chosen) // columns)
    with house_figure(width, 1.1 * rows * width / columns / 1.6, nrows=rows, ncols=columns) as (figure, axes):
        for ax in axes.flat:
            ax.set_axis_off()
        for ax, row in zip(axes.flat, chosen.itertuples(), strict=False):
            with Image.open(row.samples) as image:
                pixels = np.asarray(image.convert("RGB"))
            ax.imshow(pixels, interpolation="nearest")
            ax.set_title(row.label, fontsize=8.5)
    return figure


def paper_distances(beside: pd.DataFrame, *, width: float = 7.4, height: float = 4.6) -> Figure:
    """The paper's FID of each data set, a mark a method; hollow marks are what was measured on it.

    Parameters
    ----------
    beside : data, method, paper_fid, measured
    """
    printed = beside[beside["paper_fid"].notna()]
    names = list(dict.fromkeys(printed["data"]))
    with house_figure(width, height) as (figure, axes):
        ax = axes[0, 0]
        for shift, (method, (colour, mark)) in enumerate(_METHODS.items()):
            own = printed[printed["method"] == method].set_index("data").reindex(names)
            places = np.arange(len(names)) + 0.16 * (shift - 1.5)
            ax.scatter(places, own["paper_fid"], marker=mark, color=colour, s=22, label=method)
            ax.scatter(places, own["measured"], marker=mark, facecolors="none", edgecolors=colour, s=42)
        ax.set_xticks(range(len(names)), names, rotation=60, ha="right")
        ax.set_yscale("log")
        ax.set_ylabel("FID")
        figure.legend(loc="outside upper center", ncols=4)
    return figure
