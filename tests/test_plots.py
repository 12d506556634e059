"""Figures take tidy tables, leave nothing behind in matplotlib, and describe themselves."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from filtersub import plots
from filtersub.notebook_html import external_references

SETTINGS = [
    ("linear probing", "head only", 12_810, 0.75),
    ("atoms m=6", "spatial atoms", 14_592, 0.905),
    ("atoms m=9", "spatial atoms", 15_483, 0.91),
    ("full tuning", "full tuning", 3_384_000, 0.98),
]
RUNS = pd.DataFrame(
    [
        {"label": label, "family": family, "seed": seed, "trained": trained, "test_accuracy": accuracy + 0.01 * seed}
        for label, family, trained, accuracy in SETTINGS
        for seed in (0, 1)
    ]
)
HISTORY = pd.concat([RUNS.assign(epoch=epoch, test_accuracy=RUNS["test_accuracy"] * epoch / 3) for epoch in (1, 2, 3)])
CURVE = pd.DataFrame(
    [
        {"name": f"layer{k}", "m": m, "shape": str([8, 1, k, k]), "relative_error": max(0.0, 1 - m / k**2)}
        for k in (3, 5)
        for m in (3, 6, 9)
    ]
)
ROUNDS = pd.DataFrame(
    [{"name": f"l{n}", "round": r, "relative_to_start": 0.9**r} for n in (1, 2) for r in range(4 * n)]
)
CONFUSION = pd.DataFrame([{"true": t, "predicted": p, "count": 9 * (t == p) + p} for t in range(3) for p in range(3)])
FIGURES = {
    "accuracy": lambda: plots.accuracy_vs_parameters(RUNS),
    "learning": lambda: plots.learning_curves(HISTORY),
    "error": lambda: plots.error_vs_atoms(CURVE),
    "convergence": lambda: plots.convergence(ROUNDS),
    "atoms": lambda: plots.atoms_grid({"a": np.eye(3)[None].repeat(4, 0), "b": np.ones((2, 5, 5))}),
    "confusion": lambda: plots.confusion(CONFUSION),
}


@pytest.mark.parametrize("name", FIGURES)
def test_each_figure_is_its_own_and_leaves_no_state(name):
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams)
    figure = FIGURES[name]()
    page = plots.figure_html(figure, f"A figure of {name} with <marks> & more", "A caption")
    assert isinstance(figure, Figure)
    assert pyplot.get_fignums() == []
    assert dict(matplotlib.rcParams) == before
    assert page.count("<svg") == 1
    assert f'aria-label="A figure of {name} with &lt;marks&gt; &amp; more"' in page
    assert "<figcaption>A caption</figcaption>" in page
    assert external_references(page) == []


def test_two_figures_on_a_page_share_no_id():
    import re

    first, second = (plots.figure_html(plots.error_vs_atoms(CURVE), alt) for alt in ("one", "two"))
    ids = [set(re.findall(r'\bid="([^"]+)"', page)) for page in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for page, own in zip((first, second), ids, strict=True):
        assert set(re.findall(r"url\(#([^)]+)\)", page)) <= own


def test_what_is_drawn_is_what_the_table_says():
    ax = plots.accuracy_vs_parameters(RUNS).axes[0]
    drawn = {tuple(point) for line in ax.lines for point in line.get_xydata().tolist()}
    for row in RUNS.itertuples():
        assert (row.trained, row.test_accuracy) in drawn
    assert {text.get_text() for text in ax.texts} == set(RUNS["label"])
    assert ax.get_xscale() == "log"


def test_labels_stand_a_line_apart():
    figure = plots.accuracy_vs_parameters(RUNS)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    for n, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[n + 1 :])


def test_counts_read_well():
    shown = [plots.short_count(value) for value in (950, 12_810, 3_384_000)]
    assert shown == ["950", "12.8k", "3.38M"]
