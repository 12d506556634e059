"""Every method's run: saved, read back merged, its cost and its choices in the record; bad ends leave nothing half."""

import json
import resource
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors import SafetensorError
from torch.utils.data import DataLoader

from filtersub.errors import FiltersubError, LossNotFinite
from filtersub.experiment import TuneSettings, saved_weights, tune
from filtersub.experiment.settings import settings_from
from filtersub.experiment.step_cost import step_flops
from filtersub.experiment.tuned import load_tuned
from filtersub.methods import METHODS, inject
from filtersub.models import load_model
from filtersub.records import read_record, read_records
from filtersub.training import CHECKPOINT_FILE, evaluate

SAMPLE = Path(__file__).parents[1] / "reports" / "sample"
SMALL = TuneSettings(
    model="test_resnet", pretrained=False, n_train=100, epochs=1, batch_size=50, image_size=32, solver="pca", rank=4
)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("method", METHODS)
def test_what_is_saved_gives_the_recorded_accuracy(method, tmp_path):
    if method.startswith("tucker"):
        pytest.importorskip("lycoris", reason="the extra filtersub[lycoris]")
    few = {"layers": "layer1"} if method in ("hra", "boft") else {}  # they take long where channels are many
    record = tune(replace(SMALL, method=method, learning_rate=0.03, **few), tmp_path, quiet=True)
    model, split, settings = load_tuned(tmp_path)
    assert settings.method == method
    loss, confusion = evaluate(model, DataLoader(split.judged, 200), 10)
    assert loss == pytest.approx(record.metrics["test_loss"], rel=1e-4)
    assert torch.equal(confusion.flatten(), torch.tensor(pd.read_csv(tmp_path / "confusion.csv")["count"].to_numpy()))
    assert record.cost["step_flops"] > 0
    assert record.cost["saved_bytes"] > 4 * record.counts["head"]
    all_of_it = record.counts["trainable"] + record.counts["head"]
    assert (record.counts["saved"] >= all_of_it) == (method != "adalora")  # ranks that were taken away are not saved
    assert 0 < record.cost["added_memory_bytes"] < record.cost["peak_memory_bytes"]
    assert ("decomposition_iterations" in record.cost) == (method == "filter-subspace")


def test_labels_tell_methods_apart():
    labels = [replace(SMALL, method=method).label for method in METHODS]
    variants = [
        {"expansion": 4},
        {"expansion": (4, 3)},
        {"expansion": 4, "expansion_coefficients": "per-channel"},
        {"block": 4},
        {"block": 4, "block_spatial": True},
        {"block": 4, "expansion": 4},
        {"train_coefficients": True},
    ]
    labels += [replace(SMALL, **variant).label for variant in variants]
    labels += [replace(SMALL, method="lora", rank=8).label, replace(SMALL, solver="lasso").label]
    assert len(set(labels)) == len(labels)
    assert all("{" not in label for label in labels)


@pytest.mark.parametrize("variant", [{"expansion": 4, "block": 4}, {"train_coefficients": True}])
def test_the_settings_of_the_paper_run(variant, tmp_path):
    record = tune(replace(SMALL, **variant), tmp_path, quiet=True)
    plain = tune(SMALL, tmp_path / "plain", quiet=True)
    assert record.counts["trainable"] > plain.counts["trainable"]
    assert read_record(tmp_path) == record


def test_the_rate_is_chosen_by_validation_images(tmp_path):
    settings = replace(SMALL, n_train=None, learning_rate="choose", rates=(1e-5, 0.03), epochs=1)
    record = tune(settings, tmp_path, quiet=True)
    choice = record.choices["learning_rate"]
    accuracies = {entry["learning_rate"]: entry["validation_accuracy"] for entry in choice["candidates"]}
    assert list(accuracies) == [1e-5, 0.03]
    assert accuracies[choice["chosen"]] == max(accuracies.values())
    for rate, accuracy in accuracies.items():
        candidate = read_record(tmp_path / "choice" / f"{rate:g}")
        assert candidate.parameters["validation"] is True
        assert candidate.metrics["validation_accuracy"] == accuracy
        assert pd.read_csv(tmp_path / "choice" / f"{rate:g}" / "confusion.csv")["count"].sum() == 200
    assert "test_accuracy" in record.metrics
    direct = tune(settings.with_rate(choice["chosen"]), tmp_path / "direct", quiet=True)
    assert direct.metrics == record.metrics
    assert tune(settings, tmp_path, quiet=True) == record


def test_linear_probing_chooses_the_rate_of_its_head():
    chosen = replace(SMALL, method="linear", learning_rate="choose").with_rate(0.01)
    assert (chosen.learning_rate, chosen.head_learning_rate) == (0.01, 0.01)


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(tmp_path):
    settings = replace(SMALL, method="full", learning_rate=1e30, head_learning_rate=1e30, warmup_epochs=0)
    with pytest.raises(LossNotFinite, match="became nan in epoch 1, step 2 of 2"):
        tune(settings, tmp_path, quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_a_full_disk_keeps_the_run_to_go_on_with(tmp_path, monkeypatch):
    def full(*_, **__):
        raise SafetensorError('Error while serializing: I/O error: Os { code: 28, message: "No space left on device" }')

    with monkeypatch.context() as patched:
        patched.setattr(saved_weights, "save_file", full)
        with pytest.raises(FiltersubError, match=r"cannot write .*weights\.safetensors: .*No space left"):
            tune(replace(SMALL, method="full"), tmp_path, quiet=True)
    assert {path.name for path in tmp_path.iterdir()} == {CHECKPOINT_FILE, "progress.json"}
    assert tune(replace(SMALL, method="full"), tmp_path, quiet=True).environment["resumed_from_epoch"] == 1


def test_an_adapter_that_cannot_be_written_leaves_the_older_one(tmp_path):
    """The system itself refuses to write past a limit, in the middle of the file."""
    model = load_model("test_resnet", pretrained=False, num_classes=10)
    tuned = inject(model, "filter-subspace", "fc", recipe=SMALL.recipe).model
    saved_weights.save_trained(tuned, SMALL, tmp_path)
    kept = {path: path.read_bytes() for path in (tmp_path / "adapter").iterdir()}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(FiltersubError, match=r"cannot write .*adapter: .*make room"):
            saved_weights.save_trained(tuned, SMALL, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == kept


def test_operations_of_a_step_are_those_of_its_convolutions():
    """Forward, the gradient of the images and that of the weights each cost 2 n c_out c_in k^2 h w, where needed."""
    torch.manual_seed(0)
    first, second = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 4, 3, padding=1)
    model = torch.nn.Sequential(first, second, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    one, two = (2 * 5 * layer.weight.numel() * 36 for layer in (first, second))
    assert step_flops(model, (3, 6, 6), 5, "frozen") == 2 * one + 3 * two  # images need no gradient
    first.requires_grad_(False)
    assert step_flops(model, (3, 6, 6), 5, "frozen") == one + 2 * two
    assert first.weight.device.type == "cpu"


def test_linear_probing_takes_fewer_operations_than_full_tuning():
    model = load_model("test_resnet", pretrained=False, num_classes=10)
    full = step_flops(model, (3, 32, 32), 4, "recomputed")
    model.requires_grad_(False).get_classifier().requires_grad_(True)
    assert step_flops(model, (3, 32, 32), 4, "recomputed") < 0.4 * full


def test_classes_have_their_accuracy_in_every_epoch(tmp_path):
    record = tune(replace(SMALL, epochs=2), tmp_path, quiet=True)
    classes = pd.read_csv(tmp_path / record.tables["classes"])
    assert list(classes.columns) == ["epoch", "class", "accuracy"]
    assert len(classes) == 20
    confusion = pd.read_csv(tmp_path / "confusion.csv").pivot(index="true", columns="predicted", values="count")
    wanted = [confusion.iloc[i, i] / confusion.iloc[i].sum() for i in range(10)]
    assert classes[classes["epoch"] == 2]["accuracy"].tolist() == pytest.approx(wanted)


def test_records_of_the_sample_are_still_read():
    records = {folder: record for folder, record in read_records(SAMPLE)[0].items() if record.kind == "tuning"}
    assert records
    for folder, record in records.items():
        settings = settings_from(record.parameters, str(folder))
        assert settings.label == record.label
        assert {name: settings.parameters[name] for name in record.parameters} == record.parameters


def test_an_older_record_stands_for_the_same_run(tmp_path):
    record = tune(SMALL, tmp_path, quiet=True)
    stored = json.loads((tmp_path / "record.json").read_text())
    for new in ("expansion", "clip_norm"):
        del stored["parameters"][new]
    for new in ("choices", "notes"):
        del stored[new]
    (tmp_path / "record.json").write_text(json.dumps(stored))
    assert tune(SMALL, tmp_path, quiet=True).metrics == record.metrics
    stored["parameters"]["colour"] = "red"
    (tmp_path / "record.json").write_text(json.dumps(stored))
    with pytest.raises(FiltersubError, match="has the setting 'colour', which this version does not know"):
        tune(SMALL, tmp_path, quiet=True)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"learning_rate": "high"}, "learning_rate must be a positive number or 'choose', got 'high'"),
        ({"rates": (0.1,)}, "rates are the candidates of learning_rate 'choose'"),
        ({"learning_rate": "choose", "rates": ()}, "rates is empty"),
        ({"learning_rate": "choose", "rates": (0.1, -1.0)}, "learning_rate must be a positive number, got -1.0"),
        ({"patience": 2}, "patience stops by validation images"),
        ({"rank": 0}, "rank must be a positive integer"),
        ({"n_train": 0}, "n_train must be positive"),
    ],
)
def test_bad_settings_are_named(bad, message):
    with pytest.raises(FiltersubError, match=message):
        TuneSettings(**bad)
