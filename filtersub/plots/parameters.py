"""How many parameters each setting trains, a panel a model, LoRA of each rank beside it."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from .style import BLUE, GREEN, INK, MUTED, PURPLE, VERMILION, house_figure, short_count

_COLOURS = (BLUE, VERMILION, GREEN, PURPLE)
_MARKS = ("o", "s", "^", "D", "v", "P")


def parameter_landscape(
    settings: pd.DataFrame, lora: pd.DataFrame, *, panel: float = 3.5, height: float = 4.4
) -> Figure:
    """Trained parameters against m, a colour a k_c, a mark an m_1; dashed lines are LoRA's ranks.

    Parameters
    ----------
    settings : model, m, m_1, k_c (0 for none), trainable
    lora : model, method, rank, trainable; each rank is drawn by its first method
    """
    models = list(dict.fromkeys(settings["model"]))
    blocks, expansions = sorted(settings["k_c"].unique()), sorted(settings["m_1"].unique())
    with house_figure(panel * len(models), height, ncols=len(models), sharey=True) as (figure, axes):
        for ax, model in zip(axes[0], models, strict=True):
            _settings(ax, settings[settings["model"] == model], blocks, expansions)
            _ranks(ax, lora[lora["model"] == model])
            ax.set_title(model.partition(":")[2] or model, fontsize=10)
            ax.set_xlabel("atoms m")
            ax.set_xticks(sorted(settings["m"].unique()))
        axes[0, 0].set_yscale("log")
        axes[0, 0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
        axes[0, 0].set_ylabel("trained parameters, head apart")
        figure.legend(handles=_keys(blocks, expansions), loc="outside upper center", ncols=8, fontsize=8.5)
    return figure


def _settings(ax: Axes, settings: pd.DataFrame, blocks: list[int], expansions: list[int]) -> None:
    for colour, k_c in zip(_cycle(_COLOURS, blocks), blocks, strict=True):
        for mark, m_1 in zip(_cycle(_MARKS, expansions), expansions, strict=True):
            line = settings[(settings["k_c"] == k_c) & (settings["m_1"] == m_1)].sort_values("m")
            ax.plot(line["m"], line["trainable"], marker=mark, ms=4.5, lw=1, color=colour)


def _ranks(ax: Axes, lora: pd.DataFrame) -> None:
    for _, row in lora.drop_duplicates("rank").iterrows():
        ax.axhline(row["trainable"], color=MUTED, lw=0.9, ls=(0, (4, 3)))
        text = f"LoRA r = {row['rank']}"
        ax.annotate(
            text, (0.99, row["trainable"]), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=7.5
        )


def _keys(blocks: list[int], expansions: list[int]) -> list[Line2D]:
    colours = [
        Line2D([], [], color=colour, lw=2, label=f"k_c = {k_c}" if k_c else "no blocks")
        for colour, k_c in zip(_cycle(_COLOURS, blocks), blocks, strict=True)
    ]
    marks = [
        Line2D([], [], color=INK, marker=mark, ls="", ms=5, label=f"m_1 = {m_1}" if m_1 else "not expanded")
        for mark, m_1 in zip(_cycle(_MARKS, expansions), expansions, strict=True)
    ]
    return [*colours, *marks]


def _cycle(values: tuple[str, ...], over: list[int]) -> list[str]:
    return [values[n % len(values)] for n in range(len(over))]
