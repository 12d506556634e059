"""Real child processes: one that is killed and goes on, two that train as one."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from filtersub.records import read_record

SCRIPT = """
import json, os, sys, time
from pathlib import Path
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset
from filtersub.training import TrainingConfig, fit

folder, seconds, processes = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
(folder / "pid").write_text(str(os.getpid()))


class Slow(Dataset):
    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        time.sleep(seconds)
        return self.images[index], self.labels[index]


generator = torch.Generator().manual_seed(0)
labels = torch.arange(72) % 3
images = torch.randn(3, 3, 4, 4, generator=generator)[labels] + torch.randn(72, 3, 4, 4, generator=generator)
torch.manual_seed(0)
dropout = [nn.Dropout(0.3)] if processes == "1" else []  # processes draw different masks
model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Tanh(), *dropout, nn.Linear(24, 3))
batch_norm = "recomputed" if processes == "1" else "adapted"
options = {"ema_decay": 0.9, "clip_norm": 1.0, "batch_norm": batch_norm}
config = TrainingConfig(epochs=5, batch_size=12, learning_rate=1e-2, **options)


def on_step(done, total):
    (folder / "steps").write_text(str(done))


result = fit(model, Slow(images[:60], labels[:60]), TensorDataset(images[60:], labels[60:]), 3, config,
             folder=folder, on_step=on_step)
history = [{key: value for key, value in row.items() if key != "seconds"} for row in result.history]
weights = [p.flatten().tolist() for p in model.parameters()]
out = {"history": history, "weights": weights, "resumed": result.resumed_from_epoch, "processes": result.processes}
(folder / f"result-{result.processes}.json").write_text(json.dumps(out))
"""


VARIABLES = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


@pytest.fixture
def start(run_code):
    """Starts the script in a process of its own; a future of how it ended."""

    def call(folder, seconds="0", processes="1"):
        folder.mkdir(exist_ok=True)
        return pool.submit(run_code, SCRIPT, folder, seconds, processes, **VARIABLES)

    with ThreadPoolExecutor() as pool:
        yield call


def result_of(done, folder, processes=1):
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((folder / f"result-{processes}.json").read_text())


def steps_done(folder):
    try:
        return int((folder / "steps").read_text() or 0)
    except FileNotFoundError:
        return 0


@pytest.mark.slow  # three processes
def test_a_run_that_was_killed_ends_with_the_same_bits(start, tmp_path):
    whole = start(tmp_path / "whole")
    victim = start(tmp_path / "killed", seconds="0.01")  # 5 steps of 12 images an epoch: 0.12 s a step
    deadline = time.monotonic() + 300
    while steps_done(tmp_path / "killed") < 12 and time.monotonic() < deadline:  # epoch 3, step 2
        assert not victim.done(), victim.result().stderr[-2000:]
        time.sleep(0.01)
    os.kill(int((tmp_path / "killed" / "pid").read_text()), signal.SIGKILL)
    assert victim.result(60).returncode == -signal.SIGKILL
    assert 12 <= steps_done(tmp_path / "killed") < 15  # in the middle of the third epoch
    assert not (tmp_path / "killed" / "result-1.json").exists()
    resumed = result_of(start(tmp_path / "killed").result(300), tmp_path / "killed")
    expected = result_of(whole.result(300), tmp_path / "whole")
    assert (expected["resumed"], resumed["resumed"]) == (0, 2)
    assert resumed["history"] == expected["history"]
    assert resumed["weights"] == expected["weights"]


@pytest.mark.slow  # three processes
def test_two_launched_processes_give_the_history_of_one(start, launched, tmp_path):
    done = launched(LAUNCHERS["torchrun"], "-c", SCRIPT, tmp_path, "0", "2")  # as accelerate launch does
    pair = result_of(done, tmp_path, 2)
    (tmp_path / "checkpoint.pt").unlink()
    alone = result_of(start(tmp_path, processes="2").result(300), tmp_path, 1)
    assert (pair["processes"], alone["processes"]) == (2, 1)
    assert len(pair["history"]) == len(alone["history"]) == 5
    for one, other in zip(alone["history"], pair["history"], strict=True):
        assert other == pytest.approx(one, rel=1e-4, abs=1e-5)  # float32 sums in another order
    for one, other in zip(alone["weights"], pair["weights"], strict=True):
        assert other == pytest.approx(one, rel=1e-3, abs=1e-4)


ACCELERATE = ["accelerate.commands.launch", "--multi_gpu", "--mixed_precision", "no", "--dynamo_backend", "no"]
LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    "accelerate launch": [*ACCELERATE, "--num_processes", "2", "--num_machines", "1", "--main_process_port", "0"],
}


@pytest.mark.slow  # two processes
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_the_command_shares_a_run_among_launched_processes(launcher, launched, tmp_path):
    """As docs/training.md has it for CPUs: asked too early, accelerate takes each process for the only one."""
    small = ["--method", "linear", "--epochs", "1", "--image-size", "32", "--n-train", "40"]
    command = ["-m", "filtersub", "tune", "efficientnet_lite0", *small, "--out", tmp_path / "run"]
    done = launched(LAUNCHERS[launcher], *command)
    assert done.returncode == 0, done.stderr[-2000:]
    record = read_record(tmp_path / "run")
    assert record.environment["processes"] == 2
    assert 0 < record.metrics["test_accuracy"] < 1
    assert done.stdout.count("linear probing: accuracy") == 1  # the first process speaks for all
