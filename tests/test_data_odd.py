"""Odd folders and lists of images: read right, or refused in one line, through each door; what is odd is said."""

import io
import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from test_data_disk import PLAIN, labels_of, root, write_folder, write_image  # noqa: F401 (a fixture)

from filtersub.data import check_data, load_data, n_classes
from filtersub.errors import FiltersubError


def bytes_of(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def put(path, content=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def moved(folder, **names):
    for old, new in names.items():
        (folder / old).rename(folder / new)


def link(path, to):
    path.symlink_to(to, target_is_directory=True)


def flattened(folder):
    for part in ("train", "val", "test"):
        shutil.rmtree(folder / part)
        write_image(folder / part / "0.png", 0)


def several_modes(folder):
    """One image of each mode and size over the first of a class."""
    colour = Image.fromarray(np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8))
    deep = np.random.default_rng(1).integers(0, 65536, (4, 9)).astype(np.uint16)
    frames = [colour.quantize(4), colour.rotate(90).quantize(4)]
    put(folder / "ant" / "0.png", bytes_of(colour.quantize(8), transparency=3))
    put(folder / "ant" / "1.png", bytes_of(colour.convert("LA")))
    put(folder / "ant" / "2.tif", bytes_of(colour.convert("CMYK"), "TIFF"))
    put(folder / "ant" / "3.png", bytes_of(Image.fromarray(deep)))
    put(folder / "ant" / "4.png", bytes_of(colour.convert("1")))
    put(folder / "bee" / "5.webp", bytes_of(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    put(
        folder / "bee" / "6.tiff",
        bytes_of(colour.rotate(180), "TIFF", save_all=True, append_images=[colour.rotate(90)]),
    )


def dark(folder):
    for name in ("ant", "bee"):
        for index in range(10):
            values = np.random.default_rng(len(name) * 100 + index).integers(0, 4096, (6, 6)).astype(np.uint16)
            values[0, 0] = index + (name == "ant") * 16  # no two alike
            put(folder / name / f"{index}.tif", bytes_of(Image.fromarray(values), "TIFF"))


# what is done to a folder of two classes of ten, or to train/, val/ and test/ of five of each class -> what is
# expected: (training images, judged images), and what is said of it
TAKEN_DIRECTLY = {
    "as it is": (lambda at: None, (16, 4), ()),
    "modes and sizes mixed": (several_modes, (19, 4), ()),
    "12 bits stored in 16": (dark, (32, 8), ("next to black",)),
    "folders within a class": (lambda at: write_image(at / "ant" / "x" / "y" / "z.png", 99), (17, 4), ()),
    "a folder named like an image": (lambda at: write_image(at / "ant" / "x.png" / "y.png", 99), (17, 4), ()),
    "a class named like an image": (lambda at: moved(at, ant="ant.png"), (16, 4), ()),
    "a class named like a part": (lambda at: moved(at, ant="train"), (16, 4), ()),
    "two classes named like parts, one not": (
        lambda at: (moved(at, ant="train", bee="test"), write_image(at / "car" / "0.png", 77)),
        (17, 4),
        ("test: classes without an image (1): car",),
    ),
    "a class without images": (
        lambda at: (at / "wasp").mkdir(),
        (16, 4),
        ("train: classes without an image (1): wasp", "test: classes without an image (1): wasp"),
    ),
    "classes that differ in case": (
        lambda at: write_image(at / "Ant" / "0.png", 98),
        (17, 4),
        ("two classes whose names differ in case or blanks alone (1): 'Ant' and 'ant'",),
    ),
    "files without extension": (lambda at: put(at / "ant" / "photo"), (16, 4), ("suffix is not", "ant/photo")),
    "images of no class": (lambda at: write_image(at / "loose.png", 97), (16, 4), ("in no class folder", "loose.png")),
    "a link to a folder above": (lambda at: link(at / "ant" / "all", at / "ant"), (16, 4), ()),
    "two links that lead to one another": (
        lambda at: ((at / "ant" / "x").mkdir(), link(at / "ant" / "x" / "y", at / "ant"), link(at / "ant" / "z", at)),
        (24, 6),  # z holds both classes: bee is a part of ant then, and the contents of bee have two labels
        ("images of one content and different labels",),
    ),
    "one image in two classes": (
        lambda at: put(at / "bee" / "twin.png", (at / "ant" / "0.png").read_bytes()),
        (17, 4),
        ("bee/twin.png = ant/0.png",),
    ),
}


@pytest.mark.parametrize("kind", TAKEN_DIRECTLY)
def test_an_odd_folder_of_classes_is_read_right_and_what_is_odd_is_said(root, kind):  # noqa: F811
    change, counts, words = TAKEN_DIRECTLY[kind]
    write_folder(root / "set", ("",), count=10)
    change(root / "set")
    split = load_data(f"folder:{root / 'set'}", **PLAIN)
    assert (len(split.train), len(split.judged)) == counts
    assert n_classes(f"folder:{root / 'set'}") == split.n_classes == len(list((root / "set").glob("*/")))
    said = " | ".join((*split.oddities, split.duplicates_note))
    assert all(word in said for word in words)
    assert bool(said) == bool(words)
    report = check_data(f"folder:{root / 'set'}")
    assert report.complete
    assert sum(report.images.values()) == sum(counts)


PARTS = {
    "usual": ({}, "test"),
    "capitals": ({"train": "Train", "val": "VAL", "test": "Test"}, "test"),
    "long": ({"train": "training", "val": "validation", "test": "testing"}, "test"),
    "others": ({"train": "Training", "val": "dev", "test": "eval"}, "test"),
    "no test": ({"test": ".test"}, "val"),
}


@pytest.mark.parametrize("kind", PARTS)
@pytest.mark.parametrize("door", ["folder", "csv of a folder", "csv with a column", "hf", "hf parquet"])
def test_parts_go_by_their_usual_names(root, kind, door, monkeypatch):  # noqa: F811
    names, judged = PARTS[kind]
    names = {part: names.get(part, part) for part in ("train", "val", "test")}
    write_folder(root / "set", ("train", "val", "test"), count=2)
    expected = labels_of(load_data(f"folder:{root / 'set'}", **PLAIN).train)
    judged_images = [np.asarray(Image.open(root / "set" / judged / name / "0.png")) for name in ("ant", "bee")]
    rows = {part: [(p, p.parent.name) for p in sorted((root / "set" / part).glob("*/*.png"))] for part in names}
    rows = {names[part]: found for part, found in rows.items() if not names[part].startswith(".")}
    path = f"folder:{root / 'set'}"
    if door == "folder":
        moved(root / "set", **{part: name for part, name in names.items() if part != name})
    elif door == "csv of a folder":
        for name, found in rows.items():
            lines = [f"{p.relative_to(root / 'set')},{label}" for p, label in found]
            (root / "set" / f"{name}.csv").write_text("\n".join(["path,label", *lines]))
        path = f"csv:{root / 'set'}"
    elif door == "csv with a column":
        lines = [f"{p.relative_to(root)},{label},{name}" for name, found in rows.items() for p, label in found]
        (root / "all.csv").write_text("\n".join(["path,label,split", *lines]))
        path = f"csv:{root / 'all.csv'}"
    else:
        datasets = pytest.importorskip("datasets", reason="needs the extra 'datasets'")
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", root / "cache")
        made = datasets.DatasetDict({name: hub_rows(found) for name, found in rows.items()})
        if door == "hf":
            made.save_to_disk(root / "hub")
        else:
            for name, part in made.items():
                part.to_parquet(root / "hub" / f"{name}-00000-of-00001.parquet")
        path = f"hf:{root / 'hub'}"
    split = load_data(path, **PLAIN)
    if (
        kind == "no test" and door != "folder"
    ):  # only image folders are tested on val/; a fifth of each class is held out
        assert (len(split.train), len(split.judged), split.n_classes) == (2, 2, 2)
        return
    assert labels_of(split.train) == expected
    seen = [np.asarray(split.judged.images.open(index)) for index in (0, 2)]
    assert all(np.array_equal(one, other) for one, other in zip(seen, judged_images, strict=True))


def hub_rows(found, names=("ant", "bee"), typed=True):
    import datasets

    label = datasets.ClassLabel(names=list(names)) if typed else datasets.Value("string")
    features = datasets.Features({"image": datasets.Image(decode=False), "label": label})
    rows = {"image": [{"bytes": path.read_bytes(), "path": None} for path, _ in found], "label": [n for _, n in found]}
    return datasets.Dataset.from_dict(rows, features=features)


# what is done to train/, val/ and test/ of five images of ant and of bee -> the line
REFUSED_PARTS = {
    "two folders for one part": (
        lambda at: write_folder(at, ("validation",)),
        r"both 'val' and 'validation', two names of its validation part; rename or remove one",
    ),
    "one part in two cases": (lambda at: write_folder(at, ("Train",)), "both 'Train' and 'train'"),
    "no training part": (lambda at: moved(at, train=".train"), "has test and val, but no folder train"),
    "no training part, a folder beside": (
        lambda at: moved(at, train="pictures"),
        "has test and val, but no folder train",
    ),
    "parts without classes": (
        flattened,
        "train has no subfolder; an ImageFolder has one for each class",
    ),
    "one folder too deep": (
        lambda at: ((at / "train").rename(at / "x"), (at / "train").mkdir(), (at / "x").rename(at / "train" / "x")),
        r"a single subfolder, x, which holds folders itself \(ant, bee\); the classes must lie directly in",
    ),
    "a class in another case": (
        lambda at: moved(at / "val", ant="Ant"),
        r"has the class 'Ant', .* did you mean 'ant'\?",
    ),
    "a class that does not train": (lambda at: moved(at / "test", ant="wasp"), "has the class 'wasp', which the"),
    "a link out of the folder": (
        lambda at: (write_image(at.parent / "far" / "0.png", 1), link(at / "train" / "bee" / "far", at.parent / "far")),
        r"lead out of .*, where the files must lie \(1\): bee/far",
    ),
    "a class that is a link out": (
        lambda at: (moved(at / "train", ant="../../ant"), link(at / "train" / "ant", at.parent / "ant")),
        r"lead out of .* \(1\): ant",
    ),
    "a link to nothing": (
        lambda at: (at / "train" / "bee" / "9.png").symlink_to("gone.png"),
        "images in the list but not",
    ),
    "an empty file": (
        lambda at: put(at / "train" / "bee" / "9.png"),
        r"\(1\): bee/9.png \(the first: the file is empty",
    ),
    "only broken images in a class": (
        lambda at: [put(at / "train" / "bee" / f"{index}.png", b"no image") for index in range(5)],
        r"images that cannot be decoded \(5\): bee/0.png, bee/1.png, bee/2.png and 2 more",
    ),
    "a truncated photograph": (
        lambda at: put(at / "test" / "bee" / "9.jpg", bytes_of(Image.new("RGB", (64, 64), "red"), "JPEG")[:-60]),
        r"test: images that cannot be decoded \(1\): bee/9.jpg",
    ),
    "no training images at all": (
        lambda at: [file.unlink() for file in (at / "train").glob("*/*")],
        r"train: folders without any image \(1\)",
    ),
}


@pytest.mark.parametrize("kind", REFUSED_PARTS)
def test_what_is_no_image_folder_is_one_line_before_any_training(root, kind):  # noqa: F811
    change, message = REFUSED_PARTS[kind]
    write_folder(root / "set", ("train", "val", "test"))
    change(root / "set")
    with pytest.raises(FiltersubError, match=message) as refused:
        load_data(f"folder:{root / 'set'}", **PLAIN)
    assert "\n" not in str(refused.value)
    report = check_data(f"folder:{root / 'set'}")
    assert not report.complete
    assert any(found.fatal for found in report.problems)


def test_a_set_that_cannot_be_used_is_refused_before_a_model_is_built(root, monkeypatch):  # noqa: F811
    from filtersub.experiment import TuneSettings, run, tune

    write_folder(root / "set", ("train", "Train"))
    monkeypatch.setattr(run, "new_model", lambda *_, **__: pytest.fail("a model was built"))
    with pytest.raises(FiltersubError, match="both 'Train' and 'train'"):
        tune(TuneSettings(model="test_resnet", data=f"folder:{root / 'set'}"), root / "run", quiet=True)


def test_parts_of_a_list_are_named_once(root):  # noqa: F811
    for name in ("train", "val", "Valid"):
        (root / f"{name}.csv").write_text("path,label\nx.png,a\n")
    with pytest.raises(FiltersubError, match="both 'Valid' and 'val', two names of its validation part"):
        load_data(f"csv:{root}", **PLAIN)


@pytest.mark.parametrize("typed", [True, False])
def test_parts_of_a_hugging_face_set_have_their_own_lists_of_names(root, typed):  # noqa: F811
    datasets = pytest.importorskip("datasets", reason="needs the extra 'datasets'")
    write_folder(root / "set", ("train", "test"), count=2)
    found = {
        part: [(p, p.parent.name) for p in sorted((root / "set" / part).glob("*/*"))] for part in ("train", "test")
    }
    parts = {"train": hub_rows(found["train"]), "test": hub_rows(found["test"], ("bee", "ant"), typed=typed)}
    datasets.DatasetDict(parts).save_to_disk(root / "hub")
    assert labels_of(load_data(f"hf:{root / 'hub'}", **PLAIN).judged) == [0, 0, 1, 1]
    parts["test"] = hub_rows([*found["test"], (found["test"][0][0], "wasp")], ("wasp", "bee", "ant"), typed=typed)
    datasets.DatasetDict(parts).save_to_disk(root / "other")
    with pytest.raises(FiltersubError, match=re.escape("labels that no training image has (1): row 4 (wasp)")):
        load_data(f"hf:{root / 'other'}", **PLAIN)


LABELS = {
    "whole numbers with some missing, as pandas writes them": ([0.0, 1.0, None], "rows without a label"),
    "fractions": (
        [0.5, 1.0, 0.25],
        "row 0: the label in the column 'label' is 0.5; a label is a whole number or a name",
    ),
    "lists": ([[0], [1], [0, 1]], r"row 0: the label in the column 'label' is \[0\]"),
    "blanks": (["a", "b", " "], r"rows without a label; .* \(2\): row 2"),
    "floats that are whole": ([0.0, 1.0, 1.0], None),
    "booleans": ([False, True, True], None),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_other_kinds(root, kind):  # noqa: F811
    datasets = pytest.importorskip("datasets", reason="needs the extra 'datasets'")
    labels, message = LABELS[kind]
    write_image(root / "x.png", 1)
    images = [{"bytes": (root / "x.png").read_bytes(), "path": None}] * 6
    made = datasets.Dataset.from_dict({"image": images, "label": labels * 2})
    made.cast_column("image", datasets.Image(decode=False)).save_to_disk(root / "hub")
    if message is None:
        split = load_data(f"hf:{root / 'hub'}", **PLAIN)
        assert sorted(labels_of(split.train) + labels_of(split.judged)) == [0, 0, 1, 1, 1, 1]
    else:
        with pytest.raises(FiltersubError, match=message):
            load_data(f"hf:{root / 'hub'}", **PLAIN)


HINDERED = {
    "one class": (lambda folder: picture(folder / "cat" / "0.png"), "a single class"),
    "an image a class": (
        lambda folder: [picture(folder / name / "0.png") for name in ("cat", "dog")],
        "no test images; where a fifth is held out",
    ),
    "a link in a circle": (lambda folder: (two(folder), (folder / "cat" / "x.png").symlink_to("x.png")), "cat/x.png"),
    "a folder in a circle": (lambda folder: (two(folder), (folder / "cat" / "up").symlink_to("up")), None),
    "a pipe": (lambda folder: (two(folder), os.mkfifo(folder / "cat" / "x.png")), "cat/x.png"),
}


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    level = sum(map(ord, str(path))) % 251
    Image.new("RGB", (6, 6), (level, 255 - level, len(path.name))).save(path)


def two(folder):
    for name in ("cat", "dog"):
        for number in range(6):
            picture(folder / name / f"{number}.png")


@pytest.mark.parametrize("kind", HINDERED)
def test_what_loading_refuses_the_check_calls_incomplete(root, kind):  # noqa: F811
    make, message = HINDERED[kind]
    make(root / "odd")
    report = check_data(f"folder:{root / 'odd'}")
    if message is None:
        assert report.complete
        assert len(load_data(f"folder:{root / 'odd'}", size=8).train) == 10
        return
    assert not report.complete
    (fault,) = [found.message for found in report.problems if found.fatal]
    assert message in fault
    with pytest.raises(FiltersubError) as raised:
        load_data(f"folder:{root / 'odd'}", size=8)
    assert fault in str(raised.value)


def test_a_name_too_long_for_any_disk_is_an_image_that_is_not_there(root):  # noqa: F811
    two(root / "set")
    lines = [f"{name}/{n}.png,{name}" for name in ("cat", "dog") for n in range(6)]
    for odd in ("x" * 300 + ".png", "y" * 300 + "/0.png", "/".join(["z" * 200] * 30)):
        (root / "set" / "list.csv").write_text("\n".join(["path,label", *lines, f"{odd},cat"]))
        with pytest.raises(FiltersubError, match=r"images in the list but not in .* \(1\): [xyz]"):
            load_data(f"csv:{root / 'set' / 'list.csv'}", size=8)
