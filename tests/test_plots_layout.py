"""Where words and legends of figures lie: no two words overlap, none leaves its figure, no legend covers data, no two
ticks of an axis read alike.

The names are the longest that settings have, and each figure is drawn as wide as on wide and as on narrow pages.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from test_plots import FIGURES, NAMES

from filtersub import plots

WIDTHS = [7.4, 4.1]
LONG = [
    ("linear probing", "head only", 12_810, 0.77),
    ("atoms m=9, pca codes, learning_rate 0.003", "spatial atoms", 15_483, 0.91),
    ("atoms m=9, pca codes, learning_rate 0.03", "spatial atoms", 15_483, 0.90),
    ("atoms m=9, 4×4 blocks of spatial kernels too, omp codes", "spatial and block atoms", 73_841, 0.98),
    ("atoms m=12, 4×4 blocks of spatial kernels too, omp codes", "spatial and block atoms", 93_841, 0.985),
    (
        "atoms m=9 over m₁=4 per channel on every layer, 1×1 blocks, data fashion-mnist",
        "overcomplete atoms",
        174_000,
        0.97,
    ),
    ("atoms m=9, 4×4 blocks, alpha trained too", "atoms and coefficients", 94_000, 0.97),
    ("scale and shift (SSF)", "SSF", 94_000, 0.85),
    ("biases (BitFit)", "BitFit", 24_000, 0.82),
    ("LoRA (loralib) r=16, r=16 on depthwise convolutions", "LoRA", 3_286_448, 0.99),
    ("full tuning", "full tuning", 3_384_000, 0.985),
]
RUNS = pd.DataFrame(
    [
        {"label": label, "family": family, "seed": seed, "trained": trained, "test_accuracy": accuracy + seed / 200}
        for label, family, trained, accuracy in LONG
        for seed in (0, 1)
    ]
)
HISTORY = pd.concat(
    [RUNS.assign(epoch=epoch, test_accuracy=RUNS["test_accuracy"] * epoch / (epoch + 1)) for epoch in (1, 2, 3)]
)
ENDS = dict(
    zip(RUNS["label"].unique(), [1, 1, 2, 2, 3, 3, 3, 3, 2, 1, 3], strict=True)
)  # epochs, of runs of unlike lengths
UNEVEN = HISTORY[HISTORY["epoch"] <= HISTORY["label"].map(ENDS)]
EFFECTS = pd.DataFrame(
    {
        "parameter": ["expansion coefficients", "k_c", "k_c"],
        "levels": ["per-channel → shared", "none → 4", "none → 2"],
        "difference": [0.003, 0.056, 0.04],
        "low": [-0.004, 0.04, np.nan],
        "high": [0.01, 0.072, np.nan],
        "significant": [False, True, False],
    }
)
EQUAL = pd.DataFrame(
    [
        {
            "group": group,
            "task": "fashion-mnist",
            "method_label": f"{label}, recipe by layer",
            "family": family,
            "trainable": 10_865,
            "test_accuracy": 0.9 + n / 400,
            "by_seed": [0.9 + n / 400, 0.91 + n / 300],
        }
        for group in (1, 2)
        for n, (label, family, *_) in enumerate(LONG[1:6])
    ]
)
LAYERS = pd.DataFrame(
    [
        {"budget": budget, "name": f"l{n}", "k_c": 4 * (n % 2), "trainable": 9, "share": n / 99, "possible": n / 50}
        for budget in (1000, 10_000)
        for n in range(9)
    ]
)
SHARES = pd.DataFrame(
    [
        {"label": label, "images": images, "threshold": t, "share": 0.2, "low": 0.15, "high": 0.3}
        for label in ("LoRA r=16", "atoms m=9 over m₁=4", "atoms m=9, 4×4 blocks of spatial kernels too")
        for images in ("digits", "photographs")
        for t in (0.25, 0.5, 0.75)
    ]
)
MAPS = pd.DataFrame(
    [
        {"label": label, "image": image, "y": y, "x": x, "value": (x + y) / 4, "grey": x / 2}
        for label in SHARES["label"].unique()
        for image in (0, 1)
        for y in range(3)
        for x in range(3)
    ]
)
SPAN = pd.DataFrame(
    [
        {
            **{"block": block, "blocks": block, "solver": solver, "per_channel": 0, "m": m, "seed": seed},
            **{"share": m / 400 + seed / 900, "expected": m / 600, "name": f"l{m}"},
        }
        for block in ("none", "2×2", "4×4", "1×1")
        for solver in ("lasso", "pca", "random")
        for m in (1, 3, 9)
        for seed in (0, 1)
    ]
)
STEPS = pd.DataFrame(
    [
        {"step": step, "task": task, "difference": 0.01, "low": -0.02, "high": 0.03, "p_value": 0.3}
        for step in ("atoms m=9, 4×4 blocks of spatial kernels too against LoRA r=16", "m from 3 to 9", "k_c", "m₁")
        for task in ("efficientnet_lite0, fashion-mnist", "resnet50_thin, elpv")
    ]
)
TASKS = pd.DataFrame(
    [
        {**{"model": model, "data": data, "method_label": label}, **dict.fromkeys(("lowest", "highest"), 0.9)}
        for model in ("efficientnet_lite0", "efficientnet_lite1", "resnet50_thin", "mtcnn_onet")
        for data in ("digits", "emoji")
        for label, *_ in LONG
    ]
).assign(test_accuracy=0.9)
MEASURES = {"trainable": "trained parameters", "peak": "bytes at the peak", "seconds": "seconds in all"}
COSTS = pd.DataFrame(
    [
        {
            **{"label": label, "family": family, "test_accuracy": accuracy, "lowest": accuracy, "highest": accuracy},
            **{"trainable": trained, "peak": 1e9 + trained, "seconds": np.nan if n == 0 else 60 + n},
            **{f"front_{name}": n != 3 for name in MEASURES},
        }
        for n, (label, family, trained, accuracy) in enumerate(LONG)
    ]
)
OPTIMISERS = pd.DataFrame(
    [
        {
            **{"setting": label, "label": f"{label}{', SOAP' * (name == 'soap')}", "family": family},
            **{"optimizer": name, "steps": 80 * epochs, "seconds": 30 * epochs, "test_accuracy": accuracy},
            **{"low": accuracy - 0.01, "high": accuracy + 0.01},
        }
        for label, family, _, accuracy in LONG[1:6]
        for name in ("adamw", "soap")
        for epochs in (1, 2)
    ]
)
SIZES = pd.DataFrame(
    [
        {**{"label": label, "family": family, "images": images}, "test_accuracy": accuracy - 10 / images}
        for label, family, _, accuracy in LONG
        for images in (100, 300, 1000)
    ]
).assign(low=lambda table: table["test_accuracy"] - 0.01, high=lambda table: table["test_accuracy"] + 0.01)
LANDSCAPE = pd.DataFrame(
    [
        {"model": model, "m": m, "m_1": m_1, "k_c": k_c, "trainable": 300 * m * (1 + m_1) * (1 + k_c) ** 2}
        for model in ("torchvision:resnet50", "timm:convnext_base", "timm:efficientnet_b0")
        for m in (6, 9, 12)
        for m_1 in (0, 3, 4, 5, 6)
        for k_c in (0, 2, 4)
    ]
)
LORA = pd.DataFrame(
    [
        {"model": model, "method": "lora", "rank": r, "trainable": 80_000 * r}
        for model in LANDSCAPE["model"].unique()
        for r in (1, 4, 16)
    ]
)
LOW = pd.DataFrame(
    [{"name": n, "nonzeros": k, "rows": 9 - k, "fraction": (9 - k) / 45} for n in NAMES for k in range(9)]
)
FLAT = pd.DataFrame(
    [{"name": n, "m": m, "shape": "[8, 1, 3, 3]", "relative_error": 0.9} for n in NAMES for m in (3, 6, 9)]
)
STALLED = pd.DataFrame([{"name": n, "round": r, "relative_to_start": 1 - r / 1e4} for n in NAMES for r in range(9)])
SPREAD = pd.DataFrame(
    [{"name": n, "atom": k, "usage": 0.02 * k, "energy_fraction": 1 / 9} for n in NAMES for k in range(9)]
)
HARD = pd.DataFrame(
    [
        {"name": n, "m": m, "relative_error": 0.9, "best_possible": 0.9, "chosen": m == 5}
        for n in NAMES
        for m in (2, 3, 5)
    ]
)

LAYOUTS = {
    "accuracy of long names": lambda width: plots.accuracy_vs_parameters(RUNS, width=width),
    "many settings": lambda width: plots.accuracy_vs_parameters(
        pd.concat(
            [RUNS, *(RUNS.assign(label=RUNS["label"] + f", seed {n}", trained=RUNS["trained"] * n) for n in (2, 3))]
        ),
        width=width,
    ),
    "learning of long names": lambda width: plots.learning_curves(HISTORY, width=width),
    "learning, unlike lengths": lambda width: plots.learning_curves(UNEVEN, width=width),
    "effects": lambda width: plots.effects(EFFECTS, width=width),
    "equal counts": lambda width: plots.equal_accuracies(EQUAL, width=width),
    "allotted layers": lambda width: plots.allotted_layers(LAYERS, width=width),
    "active shares": lambda width: plots.active_shares(SHARES, width=width),
    "activation maps": lambda width: plots.activation_maps(MAPS, 0.5, width=width),
    "span": lambda width: plots.span_shares(SPAN, width=width),
    "span by layer": lambda width: plots.span_layers(SPAN, width=width),
    "task steps": lambda width: plots.task_steps(STEPS, width=width),
    "task accuracies": lambda width: plots.task_accuracies(TASKS, width=width),
    "costs of settings": lambda width: plots.accuracy_vs_costs(COSTS, MEASURES, width=width),
    "steps": lambda width: plots.accuracy_vs_steps(OPTIMISERS, width=width),
    "training images": lambda width: plots.accuracy_vs_images(SIZES, width=width),
    "landscape": lambda width: plots.parameter_landscape(LANDSCAPE, LORA, panel=width / 2),
    "one landscape": lambda width: plots.parameter_landscape(
        LANDSCAPE[LANDSCAPE["model"] == "torchvision:resnet50"], LORA, panel=width / 2
    ),
    "few coefficients": lambda width: plots.support_histogram(LOW, width=width),
    "errors that stay": lambda width: plots.error_vs_atoms(FLAT, width=width),
    "learning that stalls": lambda width: plots.convergence(STALLED, width=width),
    "usage that grows": lambda width: plots.atom_usage(SPREAD, width=width),
    "errors not met": lambda width: plots.chosen_atoms(HARD, 0.2, width=width),
    "high spectrum": lambda width: plots.spectrum(
        pd.DataFrame([{"name": "a", "rank": k, "best_relative_error": 1 - k / 999} for k in range(9)]), width=width
    ),
    **{name: lambda width, draw=draw: draw() for name, draw in FIGURES.items() if name != "confusion"},
}


@contextmanager
def drawing() -> Iterator[list[tuple[Text, Bbox]]]:
    """Each text that is drawn meanwhile, with its box in pixels."""
    found: list[tuple[Text, Bbox]] = []
    draw = Text.draw

    def noted(text: Text, renderer, *arguments, **options):
        if text.get_visible() and text.get_text().strip():
            found.append((text, Text.get_window_extent(text, renderer)))
        return draw(text, renderer, *arguments, **options)

    Text.draw = noted
    try:
        yield found
    finally:
        Text.draw = draw


def words_of(figure: Figure) -> list[tuple[str, Bbox]]:
    with drawing() as found:
        figure.draw_without_rendering()
    return [(text.get_text(), box) for text, box in found if text.get_rotation() % 90 == 0]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", LAYOUTS)
def test_words_and_legends_have_room_of_their_own(name, width):
    figure = LAYOUTS[name](width)
    words = words_of(figure)
    room = figure.bbox.padded(1)
    assert words or name == "atoms"
    assert [text for text, box in words if not (room.containsx(box.x0) and room.containsx(box.x1))] == []
    assert [text for text, box in words if not (room.containsy(box.y0) and room.containsy(box.y1))] == []
    shrunk = [(text, box.padded(-1)) for text, box in words]
    assert [(a, b) for n, (a, one) in enumerate(shrunk) for b, other in shrunk[:n] if one.overlaps(other)] == []
    assert not any(ax.get_legend() for ax in figure.axes)
    legends = [legend.get_window_extent() for legend in figure.legends]
    assert not any(box.overlaps(ax.bbox) for box in legends for ax in figure.axes)
    shown = [ax for ax in figure.axes if ax.axison and ax.get_label() != "<colorbar>"]
    covered = sum(np.ptp(list(span)) for span in {(round(ax.bbox.x0), round(ax.bbox.x1)) for ax in shown})
    assert not shown or covered > figure.bbox.width / 3
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        ticks = [tick.label1.get_text() for tick in axis.get_major_ticks() if tick.label1.get_text()]
        assert len(set(ticks)) == len(ticks)


def test_every_setting_lies_in_each_panel_of_costs():
    """A cost that is known of a few settings does not hide the others in the panels beside it."""
    figure = plots.accuracy_vs_costs(COSTS, MEASURES)
    low, high = figure.axes[-1].get_ylim()
    assert low < COSTS["test_accuracy"].min()
    assert high > COSTS["test_accuracy"].max()


def test_names_of_short_curves_stand_right_of_the_axes():
    figure = plots.learning_curves(UNEVEN)
    (ax,) = figure.axes
    figure.draw_without_rendering()
    assert len(ax.texts) == RUNS["label"].nunique()
    last = ax.transData.transform((3, 0))[0]
    assert all(Text.get_window_extent(note).x0 > last for note in ax.texts)


def test_bars_that_go_on_beyond_the_edge_end_in_an_arrowhead():
    wide = EFFECTS.assign(low=[-0.004, -0.5, np.nan], high=[0.01, 0.5, np.nan])
    for ax in (plots.effects(wide).axes[0], plots.task_steps(STEPS.assign(low=-0.9, high=0.9)).axes[0]):
        heads = {line.get_marker(): line.get_xydata().tolist() for line in ax.lines if line.get_marker() in "<>"}
        left, right = ax.get_xlim()
        assert {x for x, _ in heads["<"]} == {left}
        assert {x for x, _ in heads[">"]} == {right}
    assert not any(len(line.get_xdata()) for line in plots.effects(EFFECTS).axes[0].lines if line.get_marker() in "<>")


def test_no_difference_has_no_sign():
    ticks = plots.effects(EFFECTS).axes[0].xaxis.get_major_formatter()
    assert [ticks(value) for value in (-0.5, 0.0, 0.5)] == ["\N{MINUS SIGN}0.5", "0", "+0.5"]
