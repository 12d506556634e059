"""Trackers: what a training run logs to TensorBoard, to wandb's offline folder and to MLflow; what is refused."""

import json
from pathlib import Path

import pytest

from filtersub.ablation.run import _tracked
from filtersub.errors import FiltersubError
from filtersub.experiment import TuneSettings, tune
from filtersub.experiment.log import chosen_trackers
from filtersub.processes import LOG_WITH

SMALL = TuneSettings(
    model="test_resnet", pretrained=False, method="linear", n_train=100, epochs=2, batch_size=50, image_size=32
)


def test_curves_for_tensorboard(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard")
    record = tune(SMALL, tmp_path, quiet=True, log_with="tensorboard")
    found = events.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {"loss/train", "loss/test", "accuracy/test", "learning_rate"} <= set(found.Tags()["scalars"])
    points = found.Scalars("accuracy/test")
    assert [point.step for point in points] == [1, 2]
    assert points[-1].value == pytest.approx(record.metrics["test_accuracy"])


def test_mlflow_holds_settings_and_curves(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="needs mlflow")
    place = f"file:{tmp_path / 'store'}"
    for name, value in (("MLFLOW_TRACKING_URI", place), ("MLFLOW_ALLOW_FILE_STORE", "true"), (LOG_WITH, "mlflow")):
        monkeypatch.setenv(name, value)
    record = tune(SMALL, tmp_path / "run", quiet=True)  # which trackers, says the environment
    client = mlflow.tracking.MlflowClient(place)
    (run,) = client.search_runs([client.get_experiment_by_name("filtersub").experiment_id])
    assert run.info.run_name == record.label
    assert run.info.status == "FINISHED"
    assert run.data.params["method"] == "linear"
    assert run.data.params["trained_parameters"] == "0"
    points = client.get_metric_history(run.info.run_id, "accuracy/test")
    assert [point.step for point in points] == [1, 2]
    assert points[-1].value == pytest.approx(record.metrics["test_accuracy"])


def test_wandb_writes_its_offline_folder_into_the_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    record = tune(SMALL, tmp_path, quiet=True, log_with=("wandb",))
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    held = file.read_bytes()  # protobuf, whose texts stand in it as they are
    for text in ("filtersub", record.label, "trained_parameters", "accuracy/test", "learning_rate"):
        assert text.encode() in held, text
    assert json.dumps(record.metrics["test_accuracy"]).encode() in held


def test_trackers_are_named_by_argument_or_environment(monkeypatch):
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    monkeypatch.delenv(LOG_WITH, raising=False)
    assert chosen_trackers(None) == ()
    monkeypatch.setenv(LOG_WITH, "tensorboard, tensorboard")
    assert chosen_trackers(None) == ("tensorboard",)
    assert chosen_trackers("") == ()  # an argument comes first
    assert chosen_trackers(["tensorboard"]) == ("tensorboard",)


def test_a_tracker_that_is_not_known_or_not_there_is_told_before_training(tmp_path, monkeypatch):
    from accelerate import tracking

    with pytest.raises(FiltersubError, match=r"unknown tracker 'wanbd'; did you mean 'wandb'\?"):
        tune(SMALL, tmp_path / "a", log_with="wanbd")
    with pytest.raises(FiltersubError, match="unknown tracker 'x'; known: aim, "):
        chosen_trackers("x")
    monkeypatch.setattr(tracking, "_available_trackers", [])
    with pytest.raises(FiltersubError, match="logging with comet_ml needs that package: pip install comet-ml"):
        tune(SMALL, tmp_path / "b", log_with="comet_ml")
    assert not list(tmp_path.rglob("record.json"))


def test_the_runs_of_an_ablation_log_to_one_place(monkeypatch):
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    for name in ("WANDB_RUN_GROUP", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    found = _tracked("tensorboard", "quickstart", Path("/out"))
    assert found == {
        LOG_WITH: "tensorboard",
        "WANDB_RUN_GROUP": "quickstart",
        "MLFLOW_TRACKING_URI": "sqlite:////out/mlflow.db",
    }
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://server")
    assert _tracked("tensorboard", "quickstart", Path("/out"))["MLFLOW_TRACKING_URI"] == "https://server"
