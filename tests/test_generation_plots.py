"""Figures of generation: marks where the numbers are, words that are neither cut off nor on top of one another."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from filtersub.generation.tables import beside_paper, paper_data
from filtersub.plots.generation import distance_vs_parameters, paper_distances, samples_side_by_side

SETTINGS = [
    ("full tuning", "full", 701_345, 0.46),
    ("not tuned", "none", 0, 7.25),
    ("atoms m=9", "filter-subspace", 1458, 0.99),
    ("atoms m=9, 4×4 blocks", "filter-subspace", 8882, 0.92),
    ("LoRA r=4", "lora", 59_520, 0.51),
    ("atoms m=9, 4×4 blocks of spatial kernels too", "filter-subspace", 311_040, 0.49),
]


def runs_on(*names, samples=None):
    rows = [
        {"data": data, "label": label, "method": method, "trainable": trainable, "frechet": mean * factor, "seed": seed}
        for data in names
        for label, method, trainable, mean in SETTINGS
        for seed, factor in enumerate((0.9, 1.1))
    ]
    known = {"distance_name": "digits-classifier Fréchet distance", "floor_frechet": 0.285, "samples": samples}
    return pd.DataFrame(rows).assign(**known)


def boxes(texts):
    """Where the words are, in pixels."""
    figure = texts[0].figure.figure
    FigureCanvasAgg(figure).draw()
    found = [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]
    return found, figure.bbox


def assert_whole(texts):
    found, whole = boxes(texts)
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= whole.x1 and box.y1 <= whole.y1 for box in found)
    return found


def assert_readable(texts):
    found = assert_whole(texts)
    assert not [pair for pair in combinations(found, 2) if pair[0].overlaps(pair[1])]


@pytest.mark.parametrize("width", [7.4, 5, 4.1])  # of pages, of a notebook alone, of a telephone
def test_distances_stand_beside_their_settings_by_trained_parameters(width):
    figure = distance_vs_parameters(runs_on("digits 5 to 9"), width=width)
    ax = figure.axes[0]
    words = [label.get_text().replace("\n", " ") for label in ax.get_yticklabels()]
    by_size = sorted(SETTINGS, key=lambda setting: setting[2])
    assert words == [f"{label} {trainable:,} trained" for label, _, trainable, _ in by_size]
    marks = {round(bar[0].get_ydata()[0]): bar[0].get_xdata()[0] for bar in ax.containers}
    assert [marks[place] for place in range(6)] == pytest.approx([mean for *_, mean in by_size])
    assert_readable([*ax.get_yticklabels(), ax.title, ax.xaxis.label, *figure.legends[0].get_texts()])
    assert_readable(ax.get_xticklabels())


def test_one_setting_alone_is_as_readable():
    alone = runs_on("digits 5 to 9")
    figure = distance_vs_parameters(alone[alone["label"] == "atoms m=9"], width=5)
    ax = figure.axes[0]
    assert_readable([*ax.get_yticklabels(), ax.title, ax.xaxis.label, *figure.legends[0].get_texts()])


def test_every_data_set_has_a_panel_and_distances_in_other_features_too():
    other = runs_on("flowers").assign(distance_name="clip-512 Fréchet distance")
    figure = distance_vs_parameters(pd.concat([runs_on(*paper_data()), other]))
    shown = [(ax.get_title(), ax.get_xlabel().replace("\n", " ")) for ax in figure.axes if ax.get_title()]
    assert [title for title, _ in shown] == [*paper_data(), "flowers"]
    assert shown[-1][1] == "clip-512 Fréchet distance"
    assert_readable([ax.title for ax in figure.axes])
    assert_readable(figure.axes[0].get_xticklabels())
    assert figure.get_figwidth() == 7.4


@pytest.mark.parametrize("width", [7.4, 4.1])
def test_samples_fill_their_panels_under_readable_names(tmp_path, width):
    pixels = np.random.default_rng(0).integers(0, 255, (16, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "samples.png")
    figure = samples_side_by_side(runs_on("digits 5 to 9", samples=str(tmp_path / "samples.png")), width=width)
    panels = [ax for ax in figure.axes if ax.images]
    assert len(panels) == len(SETTINGS)
    assert all((ax.images[0].get_array() == pixels).all() for ax in panels)
    assert_readable([ax.title for ax in panels])
    area = sum(ax.get_window_extent().width * ax.get_window_extent().height for ax in panels)
    assert area > 0.5 * figure.bbox.width * figure.bbox.height  # the rest is names, not emptiness


def test_the_paper_s_numbers_are_where_they_belong_and_none_is_measured():
    figure = paper_distances(beside_paper(pd.DataFrame()))
    ax = figure.axes[0]
    assert_whole([*ax.get_xticklabels(), ax.yaxis.label])  # words aslant: their upright boxes may meet
    printed, measured = ax.collections[::2], ax.collections[1::2]
    assert [len(points.get_offsets()) for points in printed] == [16] * 4
    assert printed[1].get_offsets()[3, 1] == 38.5  # atoms on flowers
    assert all(np.ma.getmaskarray(points.get_offsets())[:, 1].all() for points in measured)
