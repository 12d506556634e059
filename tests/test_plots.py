"""Figures take tidy tables, leave nothing behind in matplotlib, and describe themselves."""

import io
import re

import matplotlib
import numpy as np
import pandas as pd
import pytest
from conftest import external_references
from matplotlib.figure import Figure
from matplotlib.text import Text

from filtersub import plots

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
NAMES = ["stem", "block"]
SUBSPACE = pd.DataFrame(
    {"name": NAMES, "atoms": [4, 6], "relative_error": [0.3, 0.2], "best_relative_error": [0.25, 0.2]}
)
OUTPUTS = pd.DataFrame({"name": NAMES, "output_error": [0.1, np.nan]})
KERNELS = pd.DataFrame(
    [
        {"name": name, "quantile": q, "relative_error": q / 2}
        for name in NAMES
        for q in (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)
    ]
)
COHERENCE = pd.DataFrame(
    {"name": [*NAMES, "single"], "coherence": [0.8, 0.9, 0.0], "welch_bound": [0.0, 0.5, 0.0]}
).assign(bound_applies=lambda table: table["welch_bound"] > 0)
COSTS = pd.DataFrame({"name": NAMES, "learning_seconds": [0.4, 1.2], "rounds": [10, 40]})
STORAGE = pd.DataFrame(
    [
        {"name": name, "counting": counting, "method": method, "relative_error": 0.1 * len(method)}
        for name in NAMES
        for counting in ("dense", "nonzero")
        for method in ("atoms", "cp", "tucker")
    ]
)
SUPPORTS = pd.DataFrame(
    [{"name": n, "nonzeros": k, "rows": k + 1, "fraction": (k + 1) / 6} for n in NAMES for k in range(3)]
)
ATOMS = pd.DataFrame(
    [{"name": n, "atom": k, "usage": 0.9 - k / 10, "energy_fraction": 0.5 - k / 5} for n in NAMES for k in range(3)]
)
SPECTRA = pd.DataFrame([{"name": n, "rank": k, "best_relative_error": 1 - k / 9} for n in NAMES for k in range(10)])
GAPS = pd.DataFrame(
    [
        {"solver": "fista", "solves": "penalty", "stepwise": True, "seconds": s, "relative_gap": 1e-3 / s}
        for s in (1, 10)
    ]
    + [
        {"solver": "lasso", "solves": "penalty", "stepwise": False, "seconds": 0.1, "relative_gap": 0.0},
        {"solver": "omp", "solves": "support", "stepwise": False, "seconds": 0.2, "relative_gap": 0.3},
    ]
)
PATH = pd.DataFrame(
    [
        {"l1_penalty": x, "seed": seed, "density": 1 / (1 + x), "relative_error": x / (1 + x) + seed / 50}
        for x in (0.0, 0.1, 1.0)
        for seed in (0, 1)
    ]
)
TUNED = pd.DataFrame({"l1_penalty": [0.1, 0.1, 1.0], "seed": [0, 1, 0], "test_accuracy": [0.9, 0.92, 0.8]})
NETWORK = pd.DataFrame({"m": [3, 9], "agreement": [0.2, 1.0], "relative_error": [0.4, 0.0], "output_error": [0.3, 0.0]})
FREQUENT = pd.DataFrame(
    [
        {
            "name": n,
            "rank": k + 1,
            "atoms": atoms,
            "nonzeros": len(atoms.split()),
            "rows": 9 - k,
            "fraction": (9 - k) / 20,
        }
        for n in NAMES
        for k, atoms in enumerate(["0 2", "1", ""])
    ]
)
CHOICE = pd.DataFrame(
    [
        {"name": name, "m": m, "relative_error": 0.6 / m, "best_possible": 0.5 / m, "chosen": m == 3}
        for name in (*NAMES, "(model)")
        for m in (2, 3, 5)
    ]
)
ENERGY = pd.DataFrame({"name": NAMES, "rebuilt_fraction": [0.9, 0.6], "residual_fraction": [0.1, 0.3]})
LEVELS = pd.DataFrame(
    [{"name": n, "level": k, "atoms": 9 * 4**k, "weight_error": (k + 1) / 10} for n in NAMES for k in range(3)]
)
GRID = pd.DataFrame(
    [
        {
            "row": m,
            "column": k,
            "test_accuracy": m / 20 + k / 50,
            "low": m / 20,
            "high": m / 10,
            "trained": 100 * m,
            "seeds": 2,
        }
        for m in (6, 9)
        for k in (2, 4)
    ]
).assign(seeds=2)
CODES = np.array([[0.5, 0.0, -1.0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]])
FIGURES = {
    "frequent supports": lambda: plots.supports(FREQUENT),
    "energies": lambda: plots.energies(ENERGY),
    "levels": lambda: plots.level_errors(LEVELS),
    "grid": lambda: plots.setting_grid(GRID, "filter atoms m", "block"),
    "exploration": lambda: plots.exploration(np.eye(3)[None].repeat(3, 0), CODES, CODES),
    "layer errors": lambda: plots.layer_errors(SUBSPACE, OUTPUTS),
    "kernel errors": lambda: plots.kernel_errors(KERNELS),
    "coherence": lambda: plots.coherence(KERNELS.rename(columns={"relative_error": "correlation"}), COHERENCE),
    "costs": lambda: plots.layer_costs(COSTS),
    "storage": lambda: plots.storage_formats(STORAGE),
    "supports": lambda: plots.support_histogram(SUPPORTS),
    "usage": lambda: plots.atom_usage(ATOMS),
    "spectrum": lambda: plots.spectrum(SPECTRA, SUBSPACE),
    "gaps": lambda: plots.solver_gaps(GAPS),
    "path": lambda: plots.penalty_path(PATH, TUNED),
    "network": lambda: plots.network_vs_atoms(NETWORK),
    "accuracy": lambda: plots.accuracy_vs_parameters(RUNS),
    "learning": lambda: plots.learning_curves(HISTORY),
    "error": lambda: plots.error_vs_atoms(CURVE),
    "choice": lambda: plots.chosen_atoms(CHOICE, 0.2),
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


SAVED = {
    **{name: FIGURES[name] for name in ("accuracy", "learning", "path", "confusion")},
    "kernel with atoms below": lambda: plots.kernel_codes(np.arange(3.0), None, None, np.ones((3, 3, 3)), width=7.4),
}


@pytest.mark.parametrize("name", SAVED)
def test_a_page_shows_what_savefig_draws_and_leaves_the_figure_as_it_was(name):
    """Drawn once; matplotlib's savefig draws such figures twice."""
    figure, buffer = SAVED[name](), io.StringIO()
    before = figure.dpi, figure.canvas, figure.get_facecolor(), [ax.get_facecolor() for ax in figure.axes]
    page = plots.figure_html(figure, "alt")
    assert before == (figure.dpi, figure.canvas, figure.get_facecolor(), [ax.get_facecolor() for ax in figure.axes])
    with matplotlib.rc_context({**plots.style.STYLE, "svg.hashsalt": "alt"}):
        SAVED[name]().savefig(buffer, format="svg", transparent=True)
    for attribute in ("d", "transform", "x", "y", "width", "height"):
        drawn = [
            re.findall(rf'\s{attribute}="([^"]*)"', text[text.index("<defs") :]) for text in (page, buffer.getvalue())
        ]
        assert drawn[0] == drawn[1]
    assert buffer.getvalue().count("fill: none") == page.count("fill: none") > 0


@pytest.mark.parametrize("name", FIGURES)
def test_percentages_on_an_axis_are_where_they_say(name):
    figure = FIGURES[name]()
    figure.draw_without_rendering()
    for tick in (tick for ax in figure.axes for axis in (ax.xaxis, ax.yaxis) for tick in axis.get_major_ticks()):
        label = tick.label1.get_text().replace("\N{MINUS SIGN}", "-")
        if label.endswith("%"):
            assert float(label[:-1]) / 100 == pytest.approx(tick.get_loc(), abs=1e-6), label


def test_a_figure_without_rows_still_says_what_it_would_show():
    (ax,) = plots.support_histogram(pd.DataFrame(columns=["name", "nonzeros", "rows", "fraction"])).axes
    assert ax.axison
    assert ax.get_ylabel() == "share of the kernels"


def test_two_figures_on_a_page_share_no_id():
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


def test_long_names_leave_room_for_the_points():
    long = RUNS.assign(
        label=RUNS["label"] + ", blocks of spatial kernels too, codes by orthogonal matching pursuit, seed 0"
    )
    for width in (7.4, 4.0):
        for names in (RUNS, long):
            (ax,) = plots.accuracy_vs_parameters(names, width=width).axes
            ax.figure.draw_without_rendering()
            assert ax.get_position().width > 0.6
    assert all("…" in note.get_text() for note in ax.texts)


def test_names_that_are_cut_stay_apart():
    """Cut after as many characters, the settings of one figure would be called alike."""
    long = "atoms m=9 over m₁={} on every layer, {}×{} blocks, pca codes"
    names = [long.format(expansion, block, block) for expansion in (3, 4) for block in (1, 4)]
    runs = pd.concat([RUNS.iloc[:1].assign(label=name, trained=1000 * k) for k, name in enumerate(names, 1)])
    (ax,) = plots.accuracy_vs_parameters(runs).axes
    shown = [note.get_text() for note in ax.texts]
    assert sorted(shown) == sorted(f"atoms m=9 over m₁={m} … {b}×{b} blocks …" for m in (3, 4) for b in (1, 4))
    rates = [f"atoms m=9, pca codes, learning_rate {rate}" for rate in (0.002, 0.003)]
    runs = pd.concat([runs.iloc[:1].assign(label=name, trained=1000 * k) for k, name in enumerate(rates, 1)])
    shown = [note.get_text() for note in plots.accuracy_vs_parameters(runs).axes[0].texts]
    assert sorted(shown) == [f"atoms m=9 … learning_rate {rate}" for rate in (0.002, 0.003)]
    once = pd.concat([runs, runs.iloc[:1].assign(label="all of the weights, trained by a method with a long name")])
    assert "all of the weights, trained by a…" in [
        t.get_text() for t in plots.accuracy_vs_parameters(once).axes[0].texts
    ]


def test_labels_stand_a_line_apart():
    figure = plots.accuracy_vs_parameters(RUNS)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    for n, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[n + 1 :])


@pytest.mark.parametrize("width", [7.4, 4.1])
def test_names_of_few_and_of_many_parameters_do_not_run_into_one_another(width):
    full = RUNS[RUNS["label"] == "full tuning"]
    near = [
        full.assign(label="atoms m=9, 4x4 blocks, pca codes", family="spatial and block atoms", trained=23_675),
        full.assign(label="atoms m=9, 4x4 blocks, alpha trained too", family="atoms and coefficients"),
    ]
    figure = plots.accuracy_vs_parameters(pd.concat([RUNS, *near]), width=width)
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts]
    for n, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[n + 1 :])


def test_counts_read_well():
    shown = [plots.short_count(value) for value in (950, 12_810, 3_384_000)]
    assert shown == ["950", "12.8k", "3.38M"]


def drawn_points(ax):
    return {tuple(point) for line in ax.lines for point in np.round(line.get_xydata().astype(float), 12).tolist()}


@pytest.mark.parametrize("name", ["layer errors", "kernel errors", "coherence", "costs", "storage"])
def test_each_layer_has_its_line_from_the_first_on_top(name):
    ax = FIGURES[name]().axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()][:2] == NAMES
    bottom, top = ax.get_ylim()
    assert bottom > top


def test_layer_errors_are_the_tables():
    assert {(0.3, 0.0), (0.2, 1.0), (0.25, 0.0), (0.1, 0.0)} <= drawn_points(FIGURES["layer errors"]().axes[0])


def test_layers_without_rounds_have_no_panel_of_rounds():
    assert len(plots.layer_costs(COSTS).axes) == 2
    (ax,) = plots.layer_costs(COSTS.assign(rounds=0)).axes
    assert ax.get_xlabel() == "seconds of learning"


def test_one_atom_and_one_kernel_have_whole_numbers_on_their_axes():
    figure = plots.exploration(np.eye(3)[None], CODES[:1, :1], CODES[:, :1])
    figure.draw_without_rendering()
    ticks = [tick for ax in figure.axes for axis in (ax.xaxis, ax.yaxis) for tick in axis.get_major_ticks()]
    labels = [tick.label1.get_text() for tick in ticks if tick.label1.get_text() and "%" not in tick.label1.get_text()]
    assert {"0", "1"} <= set(labels)
    assert all("." not in label for label in labels)
    assert any("1 filter atom," in ax.get_xlabel() for ax in figure.axes)
    assert any(ax.get_xlabel() == "codes of 1 kernel" for ax in figure.axes)


def test_the_welch_bound_is_drawn_where_it_says_something():
    ax = FIGURES["coherence"]().axes[0]
    (bound,) = (line for line in ax.lines if line.get_label().startswith("Welch"))
    assert bound.get_xydata()[~np.isnan(bound.get_xydata()).any(axis=1)].tolist() == [[0.5, 1.0]]


def test_many_layers_are_numbered_instead_of_named():
    many = pd.concat([SUBSPACE.assign(name=f"layer{n}") for n in range(60)])
    ax = plots.layer_errors(many.drop_duplicates("name")).axes[0]
    assert "from the first to the last" in ax.get_ylabel()


def test_gaps_of_rounding_are_drawn_at_the_floor_and_every_solver_is_named():
    ax = FIGURES["gaps"]().axes[0]
    assert {text.get_text() for text in ax.texts} == set(GAPS["solver"])
    lowest = min(y for line in ax.lines for x, y in line.get_xydata() if x == 0.1)
    assert 0 < lowest < 1e-14
    assert (10.0, 1e-4) in drawn_points(ax)


def test_the_path_shows_the_mean_over_seeds_and_leaves_out_no_penalty():
    density, error, accuracy = FIGURES["path"]().axes
    assert {(1.0, 0.5), (0.1, round(1 / 1.1, 12))} == drawn_points(density)
    assert (1.0, 0.51) in drawn_points(error)
    assert drawn_points(accuracy) == {(0.1, 0.91), (1.0, 0.8)}
    assert len(plots.penalty_path(PATH, TUNED.iloc[:0]).axes) == 2


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "atoms"])  # pictures without axes
def test_axes_say_what_they_show(name):
    for ax in FIGURES[name]().axes:
        shared = ax.get_shared_x_axes().joined(ax, ax.figure.axes[-1]) and ax is not ax.figure.axes[-1]
        assert ax.get_xlabel() or shared or ax.get_label() == "<colorbar>"


def test_each_chosen_m_is_marked_below_the_error_to_meet():
    (ax,) = plots.chosen_atoms(CHOICE, 0.2).axes
    marked = {line.get_label(): line.get_xydata().tolist() for line in ax.lines if "smallest" in line.get_label()}
    assert {words: len(points) for words, points in marked.items()} == {
        "smallest m of a layer": 2,
        "smallest m of the model": 1,
    }
    assert all(m == 3 and error <= 0.2 + 1e-12 for points in marked.values() for m, error in points)


def test_energies_of_a_layer_fill_its_bar():
    bars = plots.energies(ENERGY).axes[0].patches
    ends = {round(bar.get_x() + bar.get_width(), 9) for bar in bars[-len(ENERGY) :]}
    assert ends == {1.0}  # rebuilt, lost to shrinkage and residual add up to the kernel's energy
    assert [round(bar.get_width(), 9) for bar in bars[2:4]] == [0.0, 0.1]


def test_frequent_supports_mark_the_atoms_they_hold():
    left, right = plots.supports(FREQUENT, name="block").axes
    marked = [line.get_xdata().tolist() for line in left.lines[1::2]]
    assert marked == [[0, 2], [1], []]
    assert [bar.get_width() for bar in right.patches] == [0.45, 0.4, 0.35]


def test_supports_read_back_from_a_file_are_the_same():
    single = FREQUENT[FREQUENT["rank"] > 1]
    text = pd.read_csv(io.StringIO(single.to_csv(index=False)))
    assert text["atoms"].dtype == float  # what was "1" and ""
    marked = [line.get_xdata().tolist() for line in plots.supports(text).axes[0].lines[1::2]]
    assert marked == [[1], []]


def test_a_grid_writes_accuracy_interval_and_parameters_into_each_cell():
    figure = plots.setting_grid(GRID, "m", "k_c")
    words = [text.get_text() for text in figure.axes[0].texts]
    assert words[:3] == ["34.0", "30.0 to 60.0", "600"]
    assert len(words) == 3 * len(GRID)
    assert figure.axes[1].get_ylabel() == "test accuracy"  # the colour bar


@pytest.mark.parametrize(
    ("accuracies", "half", "ends"),
    [
        ([0.90, 0.901, 0.902], 0.0, (0.876, 0.926)),  # a fifth of a point does not fill the scale of five
        ([0.90, 0.901, 0.902], 0.04, (0.861, 0.941)),  # nor does what an interval of eight points covers
        ([0.30, 0.50, 0.90], 0.01, (0.30, 0.90)),
        ([0.99, 0.995, 1.0], 0.0, (0.95, 1.0)),  # no accuracy is above 1
        ([0.7], 0.0, (0.675, 0.725)),
    ],
)
def test_the_colours_of_a_grid_do_not_stretch_noise(accuracies, half, ends):
    cells = [
        {
            "row": m,
            "column": 1,
            "test_accuracy": value,
            "low": value - half,
            "high": value + half,
            "trained": 1,
            "seeds": 2,
        }
        for m, value in enumerate(accuracies)
    ]
    scale = plots.setting_grid(pd.DataFrame(cells), "m", "k_c").axes[0].images[0].norm
    assert (scale.vmin, scale.vmax) == pytest.approx(ends)


def history_of(labels, family="spatial atoms"):
    rows = [
        {"label": label, "family": family, "seed": 0, "epoch": epoch, "test_accuracy": (number + epoch) / 100}
        for number, label in enumerate(labels)
        for epoch in (1, 2)
    ]
    return pd.DataFrame(rows)


def test_no_two_learning_curves_look_alike():
    one = history_of([f"atoms {n}" for n in range(10)])
    drawn = plots.learning_curves(pd.concat([one, history_of(["full"], "full tuning")])).axes[0].lines
    assert len({(line.get_color(), str(line.get_linestyle())) for line in drawn}) == 11
    few = plots.learning_curves(history_of(["a", "b", "c"])).axes[0].lines
    assert len({line.get_color() for line in few}) == 3


def test_a_curve_of_one_epoch_has_its_epoch_on_the_axis_and_no_parts_of_one():
    ax = plots.learning_curves(HISTORY[HISTORY["epoch"] == 1]).axes[0]
    low, high = ax.get_xlim()
    assert [tick for tick in ax.get_xticks() if low <= tick <= high] == [1]


def test_of_many_learning_curves_the_best_of_each_family_is_drawn():
    many = pd.concat([history_of([f"atoms {n}" for n in range(40)]), history_of(["full"], "full tuning")])
    drawn = {line.get_label() for line in plots.learning_curves(many).axes[0].lines}
    assert drawn == {"full", *(f"atoms {n}" for n in range(29, 40))}


def test_every_family_has_a_mark_of_its_own_and_its_words_can_be_read():
    names = ["LoRA", "DoRA", "LoHa", "LoKr", "OFT", "BOFT", "BitFit", "norm layers", "SSF", "adapters", "new one"]
    style = plots.families_style(names)
    assert len({style[name] for name in names}) == len(names)
    for colour, _ in style.values():
        shade = plots.text_colour(colour)
        parts = [int(shade[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        luminance = sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
        assert 1.05 / (luminance + 0.05) >= 4.5


def test_the_front_is_drawn_through_what_nothing_beats():
    worse = RUNS[RUNS["label"] == "full tuning"].assign(label="worse", trained=5_000_000, test_accuracy=0.5)
    lines = plots.accuracy_vs_parameters(pd.concat([RUNS, worse])).axes[0].lines
    front = next(line for line in lines if line.get_linestyle() == "--" and len(line.get_xdata()) > 2)
    assert front.get_xdata().tolist() == sorted({settings[2] for settings in SETTINGS})
