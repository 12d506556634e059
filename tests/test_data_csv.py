"""CSV lists as spreadsheets, editors and scripts write them: read right, or refused in one line that names the row."""

import numpy as np
import pytest
from test_data_disk import PLAIN, labels_of, root, write_image  # noqa: F401 (a fixture)

from filtersub.data import check_data, load_data, n_classes
from filtersub.data.csv_lists import read_csv_table
from filtersub.errors import FiltersubError

COUNT = 6


@pytest.fixture
def birds(root):  # noqa: F811
    for index in range(COUNT):
        write_image(root / "birds" / "a" / f"{index}.png", index)
    return root / "birds"


def written(birds, header="path,label", row="a/{i}.png,{label}", labels=("owl", "jay"), *, end="\n", encoding="utf-8"):
    lines = [header, *(row.format(i=i, label=labels[i % len(labels)]) for i in range(COUNT))]
    (birds / "all.csv").write_bytes((end.join(lines) + end).encode(encoding))
    return f"csv:{birds / 'all.csv'}"


SPELLINGS = {
    "plain": {},
    "Windows lines": {"end": "\r\n"},
    "byte order mark": {"encoding": "utf-8-sig"},
    "UTF-16 of a spreadsheet": {"encoding": "utf-16"},
    "semicolons": {"header": "path;label", "row": "a/{i}.png;{label}"},
    "semicolons, commas in a value": {"header": "path;note;label", "row": "a/{i}.png;seen, not heard, twice;{label}"},
    "tabs": {"header": "path\tlabel", "row": "a/{i}.png\t{label}"},
    "bars": {"header": "path|label", "row": "a/{i}.png|{label}"},
    "spaces after commas": {"header": "path, label", "row": "a/{i}.png, {label} "},
    "quotes": {"header": '"path","label"', "row": '"a/{i}.png","{label}"'},
    "a comma at the end of all lines": {"header": "path,label,", "row": "a/{i}.png,{label},"},
    "a comma at the end of rows": {"row": "a/{i}.png,{label},"},
    "several at the end": {"header": "path,label,,", "row": "a/{i}.png,{label},,,"},
    "capitals": {"header": "Path,LABEL"},
    "words in two": {"header": "Image Path,Class-Name"},
    "usual names": {"header": "image_path,labels"},
    "the index of a data frame": {"header": ",path,label", "row": "{i},a/{i}.png,{label}"},
    "backslashes": {"row": "a\\{i}.png,{label}"},
    "a dot in front": {"row": "./a/{i}.png,{label}"},
    "backslashes and a dot": {"row": ".\\a\\{i}.png,{label}"},
    "empty lines": {"end": "\n\n"},
    "lines of commas": {"end": "\n,\n"},
}


@pytest.mark.parametrize("kind", SPELLINGS)
def test_usual_spellings_are_the_same_list(birds, kind):
    name = written(birds, **SPELLINGS[kind])
    split = load_data(name, **PLAIN)
    names = sorted(images.images.name(i) for images in (split.train, split.judged) for i in range(len(images)))
    assert [file.replace("\\", "/").removeprefix("./") for file in names] == [f"a/{i}.png" for i in range(COUNT)]
    assert (n_classes(name), sorted(labels_of(split.train) + labels_of(split.judged))) == (2, [0] * 3 + [1] * 3)
    assert check_data(name).complete


LABELS = {
    "01 and 1": (("01", "1"), 2, ("01", "1")),
    "numbers": (("0", "1", "2"), 3, ()),
    "all with zeros": (("01", "02", "10"), 3, ("01", "02", "10")),
    "number and name": (("1", "one"), 2, ("1", "one")),
    "floats": (("0.0", "1.0"), 2, ("0.0", "1.0")),
    "words that tables take for missing": (("NA", "nan", "null"), 3, ("NA", "nan", "null")),
    "true and false": (("True", "False"), 2, ("False", "True")),
    "other case": (("owl", "Owl"), 2, ("Owl", "owl")),
    "minus zero": (("-0", "0"), 2, ("-0", "0")),
    "other digits": (("\u0661", "1"), 2, ("1", "\u0661")),
    "exponents": (("1e3", "1000"), 2, ("1000", "1e3")),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_are_what_is_written(birds, kind):
    labels, classes, names = LABELS[kind]
    name = written(birds, labels=labels)
    split = load_data(name, **PLAIN)
    assert split.n_classes == classes
    seen = labels_of(split.train) + labels_of(split.judged)
    assert np.bincount(seen, minlength=classes).tolist() == [COUNT // len(labels)] * classes
    from filtersub.data.names import open_source

    assert open_source(name).classes == names


REFUSED = {
    "an empty label": (
        "path,label\na/0.png,owl\na/1.png,\na/2.png,jay\n",
        r"rows with an empty label; fill it in, or remove the row \(1\): line 3 \(a/1\.png\)",
    ),
    "a label of spaces": ("path,label\na/0.png,owl\na/1.png,  \na/2.png,jay\n", r"empty label.*line 3"),
    "an empty path": ("path,label\na/0.png,owl\n,jay\na/2.png,jay\n", r"rows without a path \(1\): line 3 \(jay\)"),
    "no header": ("a/0.png,owl\na/1.png,jay\n", r"begins with a row \(a/0\.png, owl\).*put path,label above it"),
    "a column that is not there": ("file,bird\na/0.png,owl\n", r"no column 'label'; it has file, bird.*\?label=COLUMN"),
    "another separator in the rows": ("path,label\na/0.png;owl\n", r"line 2 has 1 values where the header has 2"),
    "a comma in a name": ("path,label\na/0.png,owl, barn\n", r"line 2 has 3 values .*needs quotes"),
    "a column twice": ("path,label,label\na/0.png,owl,jay\n", r"has the column 'label' twice"),
    "an open quote": ('path,label\na/0.png,"owl\n', r"line 2: not CSV .*look at its quotes"),
    "no row": ("path,label\n", r"lists no training images"),
    "nothing": ("", r"all\.csv is empty; its first line must name the columns, such as path,label"),
    "another split": (
        "path,label,split\na/0.png,owl,train\na/1.png,owl,holdout\n",
        r"line 3: split is 'holdout'; known: train",
    ),
    "an empty split": ("path,label,split\na/0.png,owl,train\na/1.png,owl,\n", r"line 3: split is ''; known: train"),
    "backslashes that lead out": ("path,label\n..\\x.png,owl\na/1.png,jay\n", r"lead out of .*\.\./x\.png"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_list_is_one_line_that_names_the_row(birds, kind):
    text, message = REFUSED[kind]
    (birds / "all.csv").write_text(text)
    with pytest.raises(FiltersubError, match=message) as refused:
        load_data(f"csv:{birds / 'all.csv'}", **PLAIN)
    assert "\n" not in str(refused.value)


def test_text_of_another_encoding_names_its_line(birds):
    (birds / "all.csv").write_bytes("path,label\na/0.png,owl\na/1.png,h\xe9ron\n".encode("latin-1"))
    with pytest.raises(FiltersubError, match=r"all\.csv, line 3: not UTF-8 text; save the file as UTF-8"):
        load_data(f"csv:{birds / 'all.csv'}")
    with pytest.raises(FiltersubError, match="cannot read"):
        read_csv_table(birds / "none.csv")


def test_a_file_whose_name_has_a_backslash_is_itself(birds):
    write_image(birds / "odd\\name.png", 9)
    (birds / "all.csv").write_text("path,label\n" + "odd\\name.png,x\n" + "".join(f"a/{i}.png,y\n" for i in range(3)))
    split = load_data(f"csv:{birds / 'all.csv'}", **PLAIN)
    assert "odd\\name.png" in {split.train.images.name(i) for i in range(len(split.train))}


def test_several_files_are_read_alike(birds):
    for part, rows in (("train", "a\\0.png;01\na\\1.png;1\n"), ("test", "a\\2.png;1\na\\3.png;01\n")):
        (birds / f"{part}.csv").write_bytes(("Path;Label\n" + rows).encode("utf-8-sig"))
    split = load_data(f"csv:{birds}", **PLAIN)
    assert (labels_of(split.train), labels_of(split.judged), split.n_classes) == ([0, 1], [1, 0], 2)
    (birds / "test.csv").write_text("path,label\na/2.png,2\n")
    with pytest.raises(FiltersubError, match=r"labels that no training image has \(1\): a/2\.png 2 \(line 2\)"):
        load_data(f"csv:{birds}", **PLAIN)


@pytest.mark.parametrize("labels", [["01", "1"] * 3, ["", "a", "b"] * 2, [None, "a", "b"] * 2, [None, 0, 1] * 2])
def test_labels_of_hugging_face_sets_are_what_is_written(root, labels):  # noqa: F811
    datasets = pytest.importorskip("datasets")
    write_image(root / "x.png", 1)
    rows = {"image": [{"bytes": (root / "x.png").read_bytes(), "path": None}] * 6, "label": labels}
    kind = "int64" if 0 in labels else "string"
    features = datasets.Features({"image": datasets.Image(decode=False), "label": datasets.Value(kind)})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(root / "hub"))
    assert n_classes(f"hf:{root / 'hub'}") == 2
    missing = sum(label in ("", None) for label in labels)
    if missing:
        with pytest.raises(FiltersubError, match=rf"rows without a label; .* \({missing}\): row 0"):
            load_data(f"hf:{root / 'hub'}", **PLAIN)
    else:
        assert load_data(f"hf:{root / 'hub'}", **PLAIN).n_classes == 2
