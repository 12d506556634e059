"""What a Dask cluster must have, and the lines for SLURM in docs/ablations.md; tests/cluster.py tries the rest."""

import re
import signal
import socket
from pathlib import Path

import pytest

from filtersub.ablation import slots
from filtersub.ablation.run_slot import Terms, run_child
from filtersub.errors import FiltersubError

DOCS = Path(__file__).parents[1] / "docs" / "ablations.md"


def test_workers_that_do_not_see_the_files_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(slots, "_PATIENCE", 0.0)
    planned, gone, here = tmp_path / "ablation.json", tmp_path / "gone.ipynb", socket.gethostname()
    planned.write_text("{}")
    with slots.open_slots(1, None) as client:
        slots.check_workers(client, planned, [planned])
        with pytest.raises(FiltersubError, match=rf"Dask workers on {here} do not see {gone}: each needs"):
            slots.check_workers(client, planned, [planned, gone])
        late = client.submit(run_child, str(planned), str(tmp_path / "runs" / "a"), Terms("one"), pure=False)
        assert f"worker on {here} does not see {tmp_path}" in str(late.exception())
        with monkeypatch.context() as other:  # an older plan under the same path, on a disk of the worker's own
            other.setattr(slots, "_digest", lambda path: "of another file")
            with pytest.raises(FiltersubError, match=rf"on {here} do not see {tmp_path}: each needs the output folder"):
                slots.check_workers(client, planned, [])
        with monkeypatch.context() as other:
            other.setattr(slots, "package_version", iter(["0.0.1", "9.9", "9.9"]).__next__)
            with pytest.raises(FiltersubError, match=rf"on {here} have filtersub 0.0.1, not 9.9: install the same"):
                slots.check_workers(client, planned, [])
        with monkeypatch.context() as other:
            other.setattr(slots, "package_version", iter([]).__next__)
            with pytest.raises(FiltersubError, match=r"on inproc\S+ cannot answer \(.*\): each needs the same Python"):
                slots.check_workers(client, planned, [])


@pytest.fixture
def slurm_cluster():
    """The class, imported with Ctrl-C kept: dask-jobqueue 0.9 makes it leave the process by sys.exit() from then on."""
    before = signal.getsignal(signal.SIGINT)
    from dask_jobqueue import SLURMCluster

    signal.signal(signal.SIGINT, before)
    return SLURMCluster


@pytest.mark.filterwarnings("ignore:Port .* already in use")
def test_the_lines_for_slurm_ask_for_what_they_say(monkeypatch, slurm_cluster):
    """dask-jobqueue writes the job script that SLURM is given; nothing is handed in here."""
    (lines,) = re.findall(r"```python\n(from dask_jobqueue .*?)```", DOCS.read_text(), flags=re.S)
    made = []
    monkeypatch.setattr(slurm_cluster, "scale", lambda self, jobs: made.append((self, jobs)))
    exec(compile(lines, "docs/ablations.md", "exec"), {"input": lambda text: None, "print": lambda text: None})
    ((cluster, jobs),) = made
    with cluster:
        script = cluster.job_script()
    assert jobs == 8
    for asked in ("--cpus-per-task=8", "-t 08:00:00", "--gres=gpu:1", "-n 1"):
        assert f"#SBATCH {asked}\n" in script
    assert "distributed.cli.dask_worker" in script
    assert "--nthreads 1 " in script
    assert "--no-nanny" in script
