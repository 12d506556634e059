"""Images that packages ship with one list of labels: elpv's photographs and the drawings of emoji."""

import json

import numpy as np
import pytest
from PIL import Image

from filtersub.data import check_data, load_data
from filtersub.data.listed import open_elpv, open_emoji
from filtersub.errors import FiltersubError

LINES = ("images/a.png  0.0                 mono", "images/b.png  0.3333333333333333  poly", "images/c.png  1.0  mono")


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """The folder of elpv: 1,010 photographs of three kinds, the first of each shared."""
    folder = tmp_path / "elpv" / "elpv_dataset" / "data"
    (folder / "images").mkdir(parents=True)
    for number, name in enumerate("abc"):
        Image.fromarray(np.full((6, 5), 100 * number, np.uint8)).save(folder / "images" / f"{name}.png")
    (folder / "labels.csv").write_text("\n".join([*LINES, *LINES * 336][:1010]) + "\n")
    monkeypatch.setenv("FILTERSUB_DATA", str(tmp_path))
    return folder


def emoji(folder, named):
    (folder / "img" / "google" / "64").mkdir(parents=True)
    entries = []
    for number, (group, drawn) in enumerate(named):
        Image.new("RGBA", (4, 4), (number, 0, 0, 255)).save(folder / "img" / "google" / "64" / f"{number}.png")
        entries.append({"category": group, "image": f"{number}.png", "has_img_google": drawn, "name": None})
    (folder / "emoji.json").write_text(json.dumps(entries))
    return folder


def test_photographs_are_defective_above_one_half(cells):
    source = open_elpv(cells)
    assert source.classes == ("functional", "defective")
    labels = {source.train.name(n): int(label) for n, label in enumerate(source.train.labels)}
    assert labels == {"images/a.png": 0, "images/b.png": 0, "images/c.png": 1}


def test_the_split_is_that_of_the_digits(cells):
    source = open_elpv(cells)
    parts = (source.train, source.search, source.validation, source.test)
    assert [len(part.labels) for part in parts] == [1000, 800, 200, 10]
    order = np.random.Generator(np.random.PCG64(0)).permutation(1010)
    lines = [*LINES, *LINES * 336][:1010]
    expected = [int(float(lines[row].split()[1]) > 0.5) for row in order]
    assert source.train.labels.tolist() == expected[:1000]
    assert source.test.labels.tolist() == expected[1000:]
    assert source.search.labels.tolist() + source.validation.labels.tolist() == expected[:1000]


def test_it_is_loaded_by_name(cells):
    split = load_data("elpv", size=8)
    assert len(split.train) == 1000
    assert split.n_classes == 2
    assert tuple(split.train[0][0].shape) == (3, 8, 8)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("images/a.png", "line 2 .PATH PROBABILITY KIND.: probability is missing"),
        ("images/a.png high mono", "line 2 .PATH PROBABILITY KIND.: probability should be a valid number.*, got .high"),
        (
            "images/a.png nan mono",
            "line 2 .PATH PROBABILITY KIND.: probability should be less than or equal to 1, got .nan",
        ),
        (
            "images/a.png 1.5 mono",
            "line 2 .PATH PROBABILITY KIND.: probability should be less than or equal to 1, got .1.5",
        ),
        ("", "line 2 .PATH PROBABILITY KIND.: path is missing"),
    ],
)
def test_a_line_that_is_none_is_named(cells, line, said):
    (cells / "labels.csv").write_text(f"{LINES[0]}\n{line}\n{LINES[2]}\n")
    with pytest.raises(FiltersubError, match=said):
        open_elpv(cells)


def test_what_is_missing_is_said_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("FILTERSUB_DATA", str(tmp_path))
    with pytest.raises(FiltersubError, match="pip install --no-deps --target elpv elpv-dataset"):
        load_data("elpv")
    with pytest.raises(FiltersubError, match="npm install --prefix emoji emoji-datasource-google"):
        load_data("emoji")


def test_paths_that_lead_out_and_images_that_are_missing_are_problems(cells):
    odd = ("../../secret.png 1.0 mono", "images/none.png 0.0 mono")
    (cells / "labels.csv").write_text("\n".join([*LINES, *odd]) + "\n")
    report = check_data("elpv")
    assert not report.complete
    assert {problem.what for problem in report.problems} >= {"outside", "missing image"}


def test_emoji_are_grouped_as_unicode_groups_them(tmp_path):
    folder = emoji(tmp_path, [("Flags", True), ("Component", True), ("Activities", True), ("Flags", False)])
    source = open_emoji(folder)
    assert source.classes == ("Activities", "Flags")
    assert sorted(zip(source.train.files, source.train.labels.tolist(), strict=True)) == [
        ("img/google/64/0.png", 1),
        ("img/google/64/2.png", 0),
    ]


@pytest.mark.parametrize("text", ["no JSON", "[1]", "{}", '[{"category": "Flags"}]'])
def test_a_list_of_emoji_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "emoji.json").write_text(text)
    with pytest.raises(FiltersubError, match="no list of emoji"):
        open_emoji(tmp_path)


def test_a_list_that_is_gone_is_refused(tmp_path):
    with pytest.raises(FiltersubError, match=r"cannot read .*labels.csv"):
        open_elpv(tmp_path)
