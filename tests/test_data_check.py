"""What is wrong with a set on disk is found, counted and named; the command says so and exits accordingly."""

import json

import pytest
from PIL import Image
from test_data_disk import TASK, root, write_cifar, write_folder, write_image, write_vtab  # noqa: F401 (a fixture)

from filtersub.data import catalogue, check_data


def found(report):
    return {(problem.what, problem.part): problem.count for problem in report.problems}


def test_digits_are_complete():
    report = check_data("digits")
    assert report.complete
    assert report.images == {"train": 1000, "search": 800, "validation": 200, "test": 797}
    assert report.problems == ()


def test_everything_wrong_is_counted_and_the_rest_is_used(root):  # noqa: F811
    folder = write_vtab(root)
    (folder / "images/test/000000.png").write_bytes(b"no image")
    with Image.open(folder / "images/train800/000003.png") as image:
        image.save(folder / "images/test/000001.bmp")
    test = ["images/test/000000.png 0", "images/test/000001.bmp 1", "images/test/000002.png 9"]
    (folder / "test.txt").write_text("\n".join([*test, "images/gone.png 1", "../x.png 1", "hm"]))
    (folder / "val200.txt").unlink()
    seen = []
    report = check_data(TASK, on_image=lambda done, total, part: seen.append((done, total)))
    assert report.there
    assert not report.complete
    wrong = found(report)
    assert wrong["broken image", "test"] == 1
    assert wrong["label", "test"] == 1
    assert wrong["missing image", "test"] == 1
    assert wrong["outside", "test"] == 1
    assert wrong["malformed line", "test"] == 1
    assert wrong["missing list", "validation"] == 1
    assert wrong["duplicate", "test"] == 1
    assert wrong["count", "train"] == 1000 - 12
    assert report.images == {"train": 12, "search": 8, "validation": 0, "test": 2}
    assert seen == [(done, 22) for done in range(1, 23)]
    duplicate = next(problem for problem in report.problems if problem.what == "duplicate")
    assert duplicate.examples == ("images/test/000001.bmp = images/train800/000003.png",)
    assert not duplicate.fatal


def test_empty_classes_and_duplicates_are_worth_knowing_but_no_hindrance(root):  # noqa: F811
    write_folder(root / "insects", ("train", "test"))
    for image in (root / "insects" / "train" / "ant").iterdir():
        image.unlink()
    write_image(root / "insects" / "test" / "ant" / "0.png", 5)  # the seed of train/bee/0.png
    for image in (root / "insects" / "test" / "bee").iterdir():
        image.unlink()
    report = check_data("folder:insects")
    assert report.complete
    assert found(report) == {("empty class", "train"): 1, ("empty class", "test"): 1, ("duplicate", "test"): 1}
    assert [problem.message for problem in report.problems[:2]] == [
        "train: classes without an image (1): ant",
        "test: classes without an image (1): bee",
    ]


def test_files_that_are_not_the_published_ones_are_said(root):  # noqa: F811
    write_cifar(root, range(100))
    report = check_data("cifar100")
    assert found(report)["checksum", "train"] == 1
    assert found(report)["count", "test"] == 9900
    assert found(report)["duplicate", "test"] == 100


def test_a_set_that_is_not_there(root):  # noqa: F811
    report = check_data("imagenet1k")
    assert not report.there
    assert catalogue()["imagenet1k"].obtain in report.problems[0].message


@pytest.mark.parametrize("whole", [True, False])
def test_the_command_checks(filtersub, root, monkeypatch, whole):  # noqa: F811
    monkeypatch.setenv("FILTERSUB_DATA", str(root))
    write_folder(root / "insects", ("train", "test"))
    if not whole:
        (root / "insects" / "test" / "bee" / "1.png").write_bytes(b"")
    done = filtersub("data", "check", f"folder:{root}/insects", "--json")
    value = json.loads(done.stdout)
    assert done.returncode == (0 if whole else 1)
    assert (value["complete"], value["classes"], value["images"]) == (whole, 2, {"train": 10, "test": 10})
    if not whole:
        assert "test/bee/1.png" not in done.stderr
        assert value["problems"][0]["examples"][0].startswith("bee/1.png (")


def test_the_command_lists_what_is_here(filtersub, root, monkeypatch):  # noqa: F811
    monkeypatch.setenv("FILTERSUB_DATA", str(root))
    write_vtab(root)
    value = json.loads(filtersub("data", "list", "--json").stdout)
    there = {entry["name"]: entry["there"] for entry in value["sets"]}
    assert len(there) == 25
    assert {name for name, here in there.items() if here} == {"digits", TASK}
    shown = filtersub("data", "list", "--obtain").stdout
    assert "vtab:sun397" in shown
    assert "cifar-100-python.tar.gz" in shown
    assert filtersub("data", "check", "nothing").returncode == 2
