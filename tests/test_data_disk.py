"""Data sets on disk, each written here in the form people share it, then read, chosen from and normalised."""

import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from filtersub.data import DATASETS, DataMissing, catalogue, first_images, load_data, n_classes, prepared
from filtersub.data.parts import balanced_subset
from filtersub.errors import FiltersubError
from filtersub.experiment import TuneSettings, tune
from filtersub.experiment.tuned import load_tuned

PLAIN = {"size": 8, "mean": (0.0,) * 3, "std": (1.0,) * 3}
TASK = "vtab:kitti"  # the task with fewest classes and test images


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("FILTERSUB_DATA", str(tmp_path))
    return tmp_path


def write_image(path, seed, size=(9, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def write_vtab(root, task="kitti", classes=4, counts=(8, 4, 6)):
    """train800, val200 and test of the sizes given, labels in turn; image i of all is drawn from seed i."""
    folder, number, lists = root / "vtab-1k" / task, 0, {}
    for name, count in zip(("train800", "val200", "test"), counts, strict=True):
        rows = []
        for index in range(count):
            file = f"images/{name}/{index:06d}.png"
            write_image(folder / file, number)
            rows.append(f"{file} {index % classes}")
            number += 1
        lists[name] = rows
    lists["train800val200"] = lists["train800"] + lists["val200"]
    for name, rows in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(rows) + "\n")
    return folder


def labels_of(data):
    return [int(data[index][1]) for index in range(len(data))]


def test_the_catalogue_has_the_tasks_of_vtab():
    tasks = [entry for name, entry in catalogue().items() if name.startswith("vtab:")]
    groups = [entry.group for entry in tasks]
    assert {name: groups.count(name) for name in set(groups)} == {"natural": 7, "specialized": 4, "structured": 8}
    assert all(entry.train == 1000 and entry.validation == 200 for entry in tasks)
    assert n_classes("vtab:sun397") == 397
    assert n_classes("vtab:cifar") == n_classes("cifar100") == 100
    assert next(iter(DATASETS)) == "digits"
    assert all(entry.obtain for entry in catalogue().values())


def test_vtab_trains_on_all_and_chooses_on_its_own_lists(root):
    folder = write_vtab(root)
    split, search = load_data(TASK, **PLAIN), load_data(TASK, validation=True, **PLAIN)
    assert (len(split.train), len(split.judged), split.judged_on, split.n_classes) == (12, 6, "test", 4)
    assert (len(search.train), len(search.judged), search.judged_on) == (8, 4, "validation")
    assert labels_of(split.judged) == [0, 1, 2, 3, 0, 1]
    image, label = split.train[9]
    with Image.open(folder / "images/val200/000001.png") as file:
        expected = np.asarray(file.resize((8, 8), Image.Resampling.BICUBIC))
    torch.testing.assert_close(image, torch.from_numpy(expected.copy()).permute(2, 0, 1) / 255)
    assert label == 1


def test_images_on_disk_are_normalised_as_asked(root):
    write_vtab(root)
    mean, std = (0.1, 0.2, 0.3), (1.0, 2.0, 4.0)
    plain = load_data(TASK, **PLAIN)
    for part in ("train", "judged"):
        image, _ = getattr(load_data(TASK, size=8, mean=mean, std=std), part)[0]
        shift, scale = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
        torch.testing.assert_close(image, (getattr(plain, part)[0][0] - shift) / scale)


def test_a_path_without_its_kind_is_told_how_it_is_named(root, monkeypatch):
    (root / "birds").mkdir()
    (root / "here" / "fish").mkdir(parents=True)
    monkeypatch.chdir(root / "here")
    for name in ("birds", "fish"):  # below the data root, and where the command runs
        with pytest.raises(FiltersubError, match=f"a folder of images is 'folder:{name}', a list 'csv:{name}'"):
            load_data(name)
    for name in ("", "f" * 300):
        with pytest.raises(FiltersubError, match="known: digits"):
            load_data(name)


def test_a_set_that_is_not_there_says_how_to_obtain_it(root):
    with pytest.raises(DataMissing, match=rf"vtab:dtd is not at {root}/vtab-1k/dtd .*FILTERSUB_DATA.*to obtain it"):
        load_data("vtab:dtd")
    with pytest.raises(DataMissing, match=r"there is nothing at .*birds; expected is an ImageFolder"):
        load_data("folder:birds")
    with pytest.raises(DataMissing, match=rf"nothing at {root}/birds, nor at {Path.cwd()}/birds; expected"):
        load_data("folder:birds")
    with pytest.raises(DataMissing, match=rf"nothing at {root}/birds; expected"):
        load_data(f"folder:{root}/birds")
    with pytest.raises(FiltersubError, match=r"unknown data set 'vtab:dtdd'.*did you mean 'vtab:dtd'\?"):
        load_data("vtab:dtdd")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("../secret.png 0", "paths that lead out of"),
        ("/etc/passwd 0", "paths that lead out of"),
        ("images/link.png 0", "paths that lead out of"),
        ("images/door/secret.png 0", "paths that lead out of"),
        ("images/none.png 0", "images in the list but not in"),
        ("images/train800/000000.png 4", r"labels not in 0\.\.3 \(1\): images/train800/000000.png 4"),
        ("images/train800/000000.png -1", r"labels not in 0\.\.3 \(1\)"),
        ("images/train800/000000.png", r"lines of train800val200.txt that are not 'path label' \(1\): line 13"),
    ],
)
def test_bad_lines_of_lists_are_refused(root, line, message):
    folder = write_vtab(root)
    write_image(root / "vtab-1k" / "secret.png", 99)
    os.symlink(root / "vtab-1k" / "secret.png", folder / "images" / "link.png")
    os.symlink(root / "vtab-1k", folder / "images" / "door")
    with open(folder / "train800val200.txt", "a") as file:
        file.write(line + "\n")
    with pytest.raises(FiltersubError, match=message):
        load_data(TASK, **PLAIN)


def test_links_within_the_root_and_a_linked_root_are_fine(root):
    folder = write_vtab(root)
    os.symlink(folder / "images" / "test", folder / "images" / "again")
    (folder / "test.txt").write_text("images/again/000000.png 2\n")
    folder.rename(root / "elsewhere")
    os.symlink(root / "elsewhere", folder)
    assert labels_of(load_data(TASK, **PLAIN).judged) == [2]


def test_broken_training_images_are_all_named_before_the_first_step(root):
    folder = write_vtab(root)
    (folder / "images/train800/000002.png").write_bytes(b"no image")
    whole = (folder / "images/val200/000003.png").read_bytes()
    (folder / "images/val200/000003.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FiltersubError, match=r"cannot be decoded \(2\): .*000002.png, images/val200/000003.png"):
        load_data(TASK, **PLAIN)


@pytest.mark.parametrize("held_bytes", [0, 512 * 2**20])
@pytest.mark.parametrize(("validation", "part"), [(False, "test"), (True, "validation")])
def test_broken_images_to_judge_on_are_all_named_before_the_first_step(root, monkeypatch, validation, part, held_bytes):
    monkeypatch.setattr(prepared, "_HELD_BYTES", held_bytes)
    folder = write_vtab(root)
    broken = [f"images/{'val200' if validation else 'test'}/00000{index}.png" for index in (1, 3)]
    for name in broken:
        (folder / name).write_bytes((folder / name).read_bytes()[:60])
    with pytest.raises(FiltersubError, match=rf"{part}: images that cannot be decoded \(2\): {', '.join(broken)}"):
        load_data(TASK, validation=validation, **PLAIN)


def test_broken_test_images_are_named_before_a_rate_is_chosen(root):
    folder = write_vtab(root)
    (folder / "images/test/000005.png").write_bytes(b"")
    settings = TuneSettings(model="test_resnet", pretrained=False, data=TASK, image_size=8, learning_rate="choose")
    with pytest.raises(FiltersubError, match=r"test: images that cannot be decoded \(1\): images/test/000005\.png"):
        tune(settings, root / "run", quiet=True)
    assert not (root / "run").exists()


def test_a_broken_image_of_a_large_set_is_named_when_it_is_reached(root):
    folder = write_vtab(root)
    (folder / "images/test/000005.png").write_bytes(b"")
    judged = load_data(TASK, hold=False, **PLAIN).judged
    assert judged[4][0].shape == (3, 8, 8)
    with pytest.raises(FiltersubError, match=r"images/test/000005\.png cannot be decoded.*data check vtab:kitti"):
        judged[5]


def write_folder(root, parts, classes=("ant", "bee"), count=5):
    number = 0
    for part in parts:
        for name in classes:
            for index in range(count):
                write_image(root / part / name / f"{index}.png", number)
                number += 1


def test_an_image_folder_with_parts(root):
    write_folder(root / "insects", ("train", "val", "test"))
    split, search = load_data("folder:insects", **PLAIN), load_data(f"folder:{root}/insects", validation=True, **PLAIN)
    assert (len(split.train), len(split.judged), n_classes("folder:insects")) == (10, 10, 2)
    assert labels_of(split.train) == [0] * 5 + [1] * 5
    assert not torch.equal(split.judged[0][0], search.judged[0][0])
    write_image(root / "insects" / "test" / "wasp" / "0.png", 1)
    with pytest.raises(FiltersubError, match="has the class 'wasp', which the training images do not have"):
        load_data("folder:insects", **PLAIN)


def test_a_set_of_one_class_is_refused(root):
    write_folder(root / "insects", ("train", "test"), classes=("ant",))
    with pytest.raises(FiltersubError, match="folder:insects: a single class"):
        load_data("folder:insects", **PLAIN)


def test_classes_alone_hold_out_a_fifth_of_each(root):
    write_folder(root / "insects", ("",), count=10)
    split = load_data("folder:insects", **PLAIN)
    again, other = load_data("folder:insects", **PLAIN), load_data("folder:insects", split_seed=1, **PLAIN)
    search = load_data("folder:insects", validation=True, **PLAIN)
    assert np.bincount(labels_of(split.judged)).tolist() == [2, 2]
    assert (len(split.train), len(search.train), len(search.judged)) == (16, 14, 2)
    names = [{part.images.name(i) for i in range(len(part))} for part in (split.train, split.judged, search.judged)]
    assert not names[0] & names[1]
    assert names[2] < names[0]  # validation images are training images, never test images
    assert all(torch.equal(split.judged[i][0], again.judged[i][0]) for i in range(4))
    assert not all(torch.equal(split.judged[i][0], other.judged[i][0]) for i in range(4))


def test_imagenet_is_cropped_and_must_have_its_classes(root, monkeypatch):
    from filtersub.data import names

    write_folder(root / "imagenet1k", ("train", "val"))
    with pytest.raises(FiltersubError, match="2 class folders where imagenet1k has 1000"):
        load_data("imagenet1k")
    known = catalogue()["imagenet1k"]
    small = type(known)(**{**vars(known), "classes": 2, "crop": 0.5})
    monkeypatch.setattr(names, "catalogue", lambda: {"imagenet1k": small})
    split = load_data("imagenet1k", **PLAIN)
    assert (len(split.train), len(split.judged), split.judged_on) == (10, 10, "test")
    pixels = write_image(root / "imagenet1k" / "val" / "ant" / "0.png", 5, size=(32, 16))
    image, _ = load_data("imagenet1k", **PLAIN).judged[0]
    middle = torch.from_numpy(pixels[4:12, 12:20].copy()).permute(2, 0, 1) / 255  # the shorter side is 8 / 0.5 already
    torch.testing.assert_close(image, middle)


def test_csv_with_names_of_classes(root):
    for index in range(8):
        write_image(root / "birds" / f"{index}.png", index)
    rows = [f"{i}.png,{'owl' if i % 2 else 'jay'},{'train' if i < 4 else 'val' if i < 6 else 'test'}" for i in range(8)]
    path = root / "birds" / "all.csv"
    path.write_text("file_name,species,split\n" + "\n".join(rows))
    with pytest.raises(FiltersubError, match="has no column 'label'; it has file_name, species, split"):
        load_data("csv:birds/all.csv")
    name = "csv:birds/all.csv?label=species"
    split, search = load_data(name, **PLAIN), load_data(name, validation=True, **PLAIN)
    assert (labels_of(split.train), labels_of(split.judged), n_classes(name)) == ([0, 1, 0, 1], [0, 1], 2)
    assert (len(search.train), len(search.judged)) == (4, 2)
    path.write_text("file_name,species,split\n" + "\n".join([*rows, "7.png,emu,test"]))
    with pytest.raises(FiltersubError, match=r"labels that no training image has \(1\): 7\.png emu"):
        load_data(name)
    path.write_text("file_name,species,split\n../x.png,owl,train\n")
    with pytest.raises(FiltersubError, match="that lead out of"):
        load_data(name)


def test_csv_files_in_a_folder(root):
    for index in range(4):
        write_image(root / "birds" / f"{index}.png", index)
    (root / "birds" / "train.csv").write_text("path,label\n0.png,0\n1.png,2\n")
    (root / "birds" / "test.csv").write_text("path,label\n2.png,1\n3.png,2\n")
    split = load_data("csv:birds", **PLAIN)
    assert (labels_of(split.train), labels_of(split.judged), split.n_classes) == ([0, 2], [1, 2], 3)


@pytest.mark.parametrize("label", ["1000000000000", "9" * 30])
def test_labels_that_are_no_numbers_of_classes_are_refused(root, label):
    write_image(root / "birds" / "0.png", 0)
    (root / "birds" / "all.csv").write_text(f"path,label\n0.png,0\n0.png,{label}\n")
    with pytest.raises(FiltersubError, match=rf"all\.csv has the label {label}; labels are numbers of classes"):
        n_classes("csv:birds/all.csv")


def write_cifar(root, labels, extra=None):
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 3, 32, 32), dtype=np.uint8)
    content = {"data": pixels.reshape(len(labels), -1), "fine_labels": list(labels), "extra": extra}
    for name in ("train", "test"):
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(n) for n in range(100)]}, protocol=2))
    return pixels


def test_cifar_files_are_read_as_torchvision_lays_them_out(root):
    pixels = write_cifar(root, range(100))
    split = load_data("cifar100", size=32, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert labels_of(split.judged) == list(range(100))
    torch.testing.assert_close(split.train[7][0], torch.from_numpy(pixels[7]) / 255)


class Call:
    """A pickle of this calls a function when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_that_calls_something_else_is_refused_unrun(root):
    write_cifar(root, range(100), extra=Call(str(root / "made")))
    with pytest.raises(FiltersubError, match=r"asks for posix.mkdir, which no array needs"):
        load_data("cifar100")
    assert not (root / "made").exists()


def test_damaged_cifar_is_one_line(root):
    write_cifar(root, [0, 1])
    (root / "cifar-100-python" / "test").write_bytes(b"\x80\x02}q")
    with pytest.raises(FiltersubError, match="test is damaged"):
        load_data("cifar100")
    (root / "cifar-100-python" / "test").write_bytes(pickle.dumps({"data": np.zeros((1, 3072))}))
    with pytest.raises(FiltersubError, match="test does not hold CIFAR-100's images"):
        load_data("cifar100")


@pytest.mark.parametrize("seed", [0, 3])
def test_subsets_are_balanced_and_lie_inside_one_another(seed):
    labels = np.repeat([0, 1, 2, 3], [30, 30, 30, 5])
    small, large = (balanced_subset(labels, n, seed) for n in (12, 50))
    assert set(small.tolist()) < set(large.tolist())
    assert np.bincount(labels[small]).tolist() == [3, 3, 3, 3]
    assert np.bincount(labels[large]).tolist() == [15, 15, 15, 5]
    assert balanced_subset(labels, 95, seed).tolist() == list(range(95))


def test_fewer_training_images_of_the_digits():
    whole, hundred, three = (load_data("digits", size=8, n_train=n) for n in (None, 100, 300))
    assert torch.bincount(hundred.train.tensors[1]).tolist() == [10] * 10
    assert torch.equal(hundred.judged.tensors[0], whole.judged.tensors[0])
    assert pictures(hundred) < pictures(three) < pictures(whole)
    everything = load_data("digits", size=8, n_train=1000)
    assert torch.equal(everything.train.tensors[0], whole.train.tensors[0])
    for n, message in ((1001, "there are 1000 training images"), (9, "there are 10 classes"), (0, "at least 1")):
        with pytest.raises(FiltersubError, match=message):
            load_data("digits", size=8, n_train=n)


def pictures(split):
    return {image.numpy().tobytes() for image in split.train.tensors[0]}


def test_fewer_training_images_of_a_set_on_disk(root):
    write_vtab(root)
    split = load_data(TASK, n_train=4, **PLAIN)
    assert sorted(labels_of(split.train)) == [0, 1, 2, 3]
    assert len(split.judged) == 6


def test_a_run_on_a_set_that_is_not_there_loads_no_model(root):
    with pytest.raises(DataMissing, match="vtab:dtd is not at"):  # the model has no weights here either
        tune(TuneSettings(model="resnet18", data="vtab:dtd", learning_rate="choose"), root / "run", quiet=True)
    assert not (root / "run").exists()


def test_a_run_trains_on_a_folder_and_is_read_back(root):
    write_folder(root / "insects", ("train", "test"), count=6)
    settings = TuneSettings(
        data="folder:insects", method="linear", epochs=1, image_size=32, batch_size=4, n_train=8, pretrained=False
    )
    record = tune(settings, root / "run", quiet=True)
    confusion = pd.read_csv(root / "run" / "confusion.csv")
    assert confusion["count"].sum() == 12
    model, split, _ = load_tuned(root / "run")
    assert len(split.train) == 8
    images, labels = first_images(split.judged, 100)
    with torch.no_grad():
        right = (model(images).argmax(1) == labels).float().mean()
    assert float(right) == pytest.approx(record.metrics["test_accuracy"])
