"""Figures of settings that train equally many parameters, and of a budget allotted to the layers."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from .style import BLUE, GRID, INK, VERMILION, families_style, house_figure, percent


def equal_accuracies(table: pd.DataFrame, *, width: float = 7.4, height: float | None = None) -> Figure:
    """Test accuracy of settings that train equally many parameters: a panel a group, a row a setting.

    Small marks are seeds, the large one their mean.

    Parameters
    ----------
    table : tables.equal_counts: group, task, method_label, family, trainable, test_accuracy, by_seed
    """
    groups = [members for _, members in table.groupby("group")]
    style, sizes = families_style(table["family"]), [len(members) for members in groups]
    tall = height or 0.32 * sum(sizes) + 0.75 * len(groups)
    options = {"nrows": len(groups), "height_ratios": [size + 0.6 for size in sizes]}
    with house_figure(width, tall, **options) as (figure, axes):
        for ax, members in zip(axes[:, 0], groups, strict=True):
            places = range(len(members), 0, -1)
            for place, row in zip(places, members.to_dict("records"), strict=True):
                colour, marker = style[row["family"]]
                ax.plot(row["by_seed"], [place] * len(row["by_seed"]), ".", color=colour, ms=6, alpha=0.6)
                ax.plot(row["test_accuracy"], place, marker, color=colour, ms=8, mec="white", mew=0.7)
            task = f"{members['task'].iloc[0]}: " if members["task"].iloc[0] else ""
            words = f"{task}about {members['trainable'].max():,} trained parameters beside the head"
            ax.set_title(words, fontsize=9, color=INK, loc="left")
            ax.set_yticks(list(places), members["method_label"], fontsize=8.5)
            ax.set_ylim(0.4, len(members) + 0.6)
            ax.xaxis.set_major_locator(MaxNLocator(6 if width > 6 else 3))
            ax.xaxis.set_major_formatter(percent())
        axes[-1, 0].set_xlabel("test accuracy")
    return figure


def allotted_layers(layers: pd.DataFrame, *, width: float = 7.4, height: float = 1.9) -> Figure:
    """What each layer gets of a budget, in the order of the network: a panel a budget.

    Coloured bars are the share of the gradient's energy that the layer's atoms can follow, grey ones what the largest
    choice would let them.

    Parameters
    ----------
    layers : layers.csv of an allotment_study: budget, name, k_c, trainable, share, possible
    """
    budgets = list(dict.fromkeys(layers["budget"]))
    with house_figure(width, height * len(budgets) + 0.5, nrows=len(budgets), sharex=True) as (figure, axes):
        for ax, budget in zip(axes[:, 0], budgets, strict=True):
            rows = layers[layers["budget"] == budget]
            places = range(1, len(rows) + 1)
            colours = [VERMILION if k_c else BLUE for k_c in rows["k_c"]]
            ax.bar(places, rows["possible"], color=GRID, width=0.8)
            ax.bar(places, rows["share"], color=colours, width=0.8)
            ax.yaxis.set_major_formatter(percent())
            ax.set_title(f"at most {budget:,} trained parameters", fontsize=9, color=INK, loc="left")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[-1, 0].set_xlabel("layer, in the order of the network")
        figure.supylabel("share of the gradient's energy", fontsize=9.5)
        keys = {"spatial kernels": BLUE, "1×1 kernels in blocks": VERMILION, "the largest choice": GRID}
        handles = [Patch(color=colour, label=words) for words, colour in keys.items()]
        figure.legend(handles=handles, loc="outside upper left", ncols=3 if width > 6 else 1, fontsize=8.5)
    return figure
