"""One run from settings to record, on the real model and the real digits, small."""

import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from filtersub.data import load_data
from filtersub.decomposition import DecompositionConfig, ModelDecomposition
from filtersub.errors import FiltersubError
from filtersub.experiment import TuneSettings, decompose_run, run, tune
from filtersub.experiment.log import TrainingLog
from filtersub.experiment.tuned import load_tuned
from filtersub.models import input_statistics, load_model
from filtersub.parameters import count_parameters
from filtersub.records import read_record, read_records, records_table

SMALL = TuneSettings(solver="pca", epochs=1, image_size=16, batch_size=100, validation=True)


@pytest.fixture(scope="module")
def atoms_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("atoms")
    return folder, tune(SMALL, folder, quiet=True)


def test_the_record_says_everything(atoms_run):
    folder, record = atoms_run
    assert read_record(folder) == record
    assert sorted(path.name for path in folder.iterdir()) == [
        "adapter",
        "atoms.csv",
        "classes.csv",
        "confusion.csv",
        "confusions.csv",
        "history.csv",
        "layers.csv",
        "record.json",
    ]
    counted = count_parameters("efficientnet_lite0", recipe=SMALL.recipe, num_classes=10)
    assert {name: record.counts[name] for name in ("trainable", "head", "total")} == {
        "trainable": counted.trainable,
        "head": counted.head,
        "total": counted.total,
    }
    assert record.counts["trainable"] == 2673
    history = pd.read_csv(folder / "history.csv")
    assert history["validation_accuracy"].iloc[-1] == pytest.approx(record.metrics["validation_accuracy"])
    confusion = pd.read_csv(folder / "confusion.csv")
    right = confusion[confusion["true"] == confusion["predicted"]]["count"].sum()
    assert right / confusion["count"].sum() == pytest.approx(record.metrics["validation_accuracy"])
    assert confusion["count"].sum() == 200
    assert {"wall_seconds", "seconds_per_step", "peak_memory_bytes", "decomposition_seconds"} <= set(record.cost)
    assert {"versions", "hardware", "commit", "dirty", "date"} <= set(record.environment)
    json.dumps(json.loads((folder / "record.json").read_text()), allow_nan=False)


def test_whoever_may_read_the_record_may_read_the_weights(atoms_run):
    folder, _ = atoms_run
    assert len({path.stat().st_mode for path in folder.rglob("*") if path.is_file()}) == 1


def test_the_saved_adapter_gives_the_recorded_accuracy(atoms_run):
    folder, record = atoms_run
    base = load_model("efficientnet_lite0", num_classes=10)
    mean, std = input_statistics(base)
    judged = load_data("digits", size=16, mean=mean, std=std, validation=True).judged
    model = PeftModel.from_pretrained(base, folder / "adapter").eval()
    images, labels = judged.tensors
    with torch.no_grad():
        accuracy = float((model(images).argmax(1) == labels).double().mean())
    assert accuracy == pytest.approx(record.metrics["validation_accuracy"])


def test_a_finished_run_is_read_back_and_another_refused(atoms_run, capsys):
    folder, record = atoms_run
    assert tune(SMALL, folder) == record
    assert "holds this run already" in capsys.readouterr().out
    with pytest.raises(FiltersubError, match=r"record of another run \(seed: 0, now 1\)"):
        tune(replace(SMALL, seed=1), folder, quiet=True)


STOPPED = replace(SMALL, solver="lasso", layers="stem", epochs=2, n_train=100)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The folder of a run that was stopped after its first epoch."""
    folder = tmp_path_factory.mktemp("stopped")

    def stop(log, row):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(TrainingLog, "on_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            tune(STOPPED, folder, quiet=True)
    return folder


@pytest.mark.parametrize("other", [{"l1_penalty": 0.02}, {"n_train": 200}, {"pretrained": False}, {"atoms": 6}])
def test_a_stopped_run_does_not_go_on_as_another(other, stopped, monkeypatch):
    """Weights of other codes, images or base weights would fit by their shapes."""
    (name,) = other
    monkeypatch.delattr(run, "_prepared")  # said before any model is loaded or decomposed
    with pytest.raises(FiltersubError, match=rf"checkpoint of other settings \({name}: "):
        tune(replace(STOPPED, **other), stopped, quiet=True)


def test_a_stopped_run_goes_on_as_itself(stopped, tmp_path):
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    assert tune(replace(STOPPED, workers=1), tmp_path, quiet=True).environment["resumed_from_epoch"] == 1


@pytest.mark.parametrize("method", ["linear", "full"])
def test_baselines_write_the_same_record(method, tmp_path):
    record = tune(replace(SMALL, method=method), tmp_path, quiet=True)
    counted = count_parameters("efficientnet_lite0", method, num_classes=10)
    assert {name: record.counts[name] for name in ("trainable", "head", "total")} == {
        "trainable": counted.trainable,
        "head": counted.head,
        "total": counted.total,
    }
    saved = load_file(tmp_path / "weights.safetensors")
    trained = sum(tensor.numel() for name, tensor in saved.items() if name.endswith((".weight", ".bias")))
    assert trained == counted.trainable + counted.head


REGULARISED = {
    **{"augmentation": "timm", "judge_crop": 0.875, "drop_path": 0.2, "head_dropout": 0.5, "update_dropout": 0.1},
    **{"label_smoothing": 0.1, "mixup": 0.8, "cutmix": 1.0, "min_rate": 1e-6, "warmup_rate": 1e-5},
    **{"ema_decay": 0.9, "ema_warmup": False},
}


def test_whatever_regularises_is_recorded_and_judged_without(tmp_path):
    settings = replace(SMALL, method="lora", rank=2, layers="blocks.0", n_train=100, batch_size=20, **REGULARISED)
    record = tune(settings, tmp_path, quiet=True)
    assert {name: record.parameters[name] for name in REGULARISED} == REGULARISED
    assert record.environment["ema_decay_reached"] == 0.9
    model, split, read = load_tuned(tmp_path)
    assert read == settings
    images, labels = split.judged.tensors
    with torch.no_grad():
        accuracy = float((model(images).argmax(1) == labels).double().mean())
    assert accuracy == pytest.approx(record.metrics["validation_accuracy"])


def test_drop_path_of_a_model_that_has_none_is_refused(tmp_path):
    settings = replace(SMALL, model="vgg11", pretrained=False, method="linear", image_size=32, drop_path=0.1)
    with pytest.raises(FiltersubError, match="vgg11 has no drop path"):
        tune(settings, tmp_path, quiet=True)


def test_decomposition_runs_write_their_tables(tmp_path):
    config = DecompositionConfig(atoms=4)
    record = decompose_run(tmp_path, atoms_grid=(2, 4), config=config, layers="conv_stem|blocks.0")
    curve = pd.read_csv(tmp_path / "curve.csv")
    assert sorted(curve["m"].unique()) == [2, 4]
    assert len(pd.read_csv(tmp_path / "layers.csv")) == 2
    assert set(pd.read_csv(tmp_path / "convergence.csv")["name"]) == {"conv_stem", "blocks.0.0.conv_dw"}
    saved = ModelDecomposition.load(tmp_path / "atoms.safetensors")
    assert saved.relative_error == pytest.approx(record.metrics["relative_error"])


def test_damaged_records_are_named_and_the_others_read(atoms_run, tmp_path):
    _, record = atoms_run
    record.write(tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "record.json").write_text('{"kind": "tuning"')
    records, damaged = read_records(tmp_path)
    assert [path.name for path in records] == ["good"]
    assert len(damaged) == 1
    assert "bad" in damaged[tmp_path / "bad"]
    table = records_table(records)
    assert table.loc[0, "trainable"] == 2673
    assert table.loc[0, "label"] == "atoms m=9, pca codes"


@pytest.mark.parametrize("rate", [1e-2, "choose"])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"n_train": 5}, "n_train is 5, but there are 10 classes"),
        ({"n_train": 5_000}, "n_train is 5000, but there are 1000 training images"),
        ({"model": "vgg11", "image_size": 8}, "vgg11 cannot take images of 8 x 8 pixels"),
        ({"layers": "nowhere"}, "no layer matches 'nowhere'"),
    ],
)
def test_what_can_be_refused_is_refused_before_anything_is_decomposed_or_written(rate, bad, message, tmp_path):
    usual = {"model": "test_resnet", "pretrained": False, "image_size": 32}
    settings = TuneSettings(**{**usual, "learning_rate": rate, **bad})
    with pytest.raises(FiltersubError, match=message):
        tune(settings, tmp_path / "deep" / "run", quiet=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"method": "magic"}, "unknown method 'magic'; known: filter-subspace, linear, full"),
        ({"atoms": 0}, "positive integer"),
        ({"epochs": 0}, "epochs must be"),
        ({"solver": "magic"}, "unknown solver"),
        ({"augmentation": "mirror"}, "unknown augmentation 'mirror'; known: none, crop-flip, randaugment, timm"),
        ({"judge_crop": 2.0}, "judge_crop is the share of the image"),
        ({"drop_path": 1.0}, "drop_path must be at least 0 and below 1, got 1.0"),
        ({"head_dropout": -0.5}, "head_dropout must be at least 0 and below 1"),
        ({"update_dropout": 0.1}, "which filter-subspace does not compute apart; it is for lora, dora, adalora, hira"),
        ({"update_dropout": 0.1, "method": "boft"}, "which boft does not compute apart"),
        ({"update_dropout": 1.0, "method": "lora"}, "update_dropout must be at least 0 and below 1"),
        ({"min_rate": 0.01, "learning_rate": 0.001}, "min_rate 0.01 lies above the learning_rate"),
        ({"min_rate": 0.01, "learning_rate": "choose"}, "min_rate 0.01 lies above the learning_rate"),
        (
            {"min_rate": 0.01, "learning_rate": 0.03, "head_learning_rate": 0.003},
            "min_rate 0.01 lies above the head_learning_rate, which is 0.003",
        ),
    ],
)
def test_bad_settings_are_named_before_anything_runs(bad, message):
    with pytest.raises(FiltersubError, match=message):
        TuneSettings(**bad)
