"""Table 3: the paper's FID stands beside runs of its own task alone, and a run of another task says why it does not."""

import pytest

from filtersub.errors import FiltersubError
from filtersub.generation.diffusion_run import DiffusionSettings, table_method
from filtersub.generation.tables import (
    PAPER_UNET,
    beside_paper,
    differing_settings,
    generation_table,
    not_beside,
    runs_of_seed,
    side_by_side,
)
from filtersub.paper import READINGS, printed_means
from filtersub.records import Record


def record(method="filter-subspace", data="flowers", frechet=40.0, seed=0, **changes):
    """A run of the paper's task, but for the changes of its settings, environment or total parameters."""
    total = changes.pop("total", PAPER_UNET)
    counted = {"none": 0, "full": PAPER_UNET, "lora": 22_670_336, "lora-loralib": 22_670_336}
    counted["filter-subspace"] = 1_110_528 if changes.get("limit_atoms", True) else 1_184_256
    trained = changes.pop("trained", counted[method])
    stated = {"features": "inception-2048", "distance_name": "FID", "kernel_name": "KID", "data": data}
    stated |= {"images": 20_000, "real_images": 8189, "floor_images": 4094}
    own = {name: changes.pop(name) for name in list(changes) if name in stated}
    settings = DiffusionSettings(pipeline="sd", data=f"data/{data}", method=method, seed=seed, **changes)
    return Record(
        kind="generation",
        label=settings.label,
        parameters=settings.parameters,
        seed=seed,
        metrics={"frechet": frechet, "kernel": 0.01, "floor_frechet": 9.0, "floor_kernel": 0.0},
        counts={"trainable": trained, "head": 0, "total": total},
        cost={"saved_bytes": 4_000_000},
        environment={**stated, **own},
    )


def table(*records):
    return generation_table({f"run-{number}": each for number, each in enumerate(records)})


@pytest.mark.parametrize("method", list(printed_means("table3")))
def test_a_run_of_the_paper_s_task_stands_beside_its_number(method):
    """Mean over seeds, beside the number that the paper prints for that method and data set, and nowhere else."""
    runs = table(*(record(method, frechet=value, seed=seed) for seed, value in enumerate((38.0, 40.0))))
    beside = beside_paper(runs)
    (row,) = beside[beside["measured"].notna()].to_dict("records")
    assert (row["data"], row["method"], row["measured"], row["seeds"]) == ("flowers", method, 39.0, [0, 1])
    assert row["paper_fid"] == {"none": 45.5, "full": 42.9, "lora": 45.3, "filter-subspace": 38.5}[method]
    assert len(beside) == 64
    assert not_beside(runs) == ""
    wide = side_by_side(beside)
    assert wide.shape == (16, 5)
    assert wide.loc["flowers", ("measured", row["label"])] == 39.0
    assert wide["measured"].count().item() == 1


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("method", ["lora", "filter-subspace"])
def test_a_run_by_either_reading_stands_beside(method, reading):
    settings = {**table_method(method, reading)}
    (row,) = beside_paper(table(record(**settings, frechet=41.0))).dropna(subset="measured").to_dict("records")
    assert (row["data"], row["method"], row["measured"]) == ("flowers", method, 41.0)
    assert differing_settings(record(**{**settings, "trained": 7})) != []
    assert differing_settings(record(**{**settings, "layers": "resnets"})) != []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"features": "clip-512", "distance_name": "clip-512 Fréchet distance"},
            "clip-512 Fréchet distance, which is not FID",
        ),
        ({"features": None, "distance_name": None}, "flowers: no distance was measured"),
        ({"images": 5000}, "5,000 images beside 8,189, not 20,000"),
        ({"reference_images": 1000}, "20,000 images beside 8,189, not 20,000"),
        ({"image_size": 512}, "images of 512 pixels a side, not 256"),
        ({"steps": 1000}, "1,000 steps, not 5,000"),
        ({"learning_rate": 1e-4}, "a rate of 0.0001, not 0.001"),
        ({"optimizer": "soap"}, "the optimiser soap, not adamw"),
        ({"atoms": 4}, "atoms m=4, 4×4 blocks of spatial kernels too, not atoms m=9"),
        ({"layers": "resnets"}, "atoms m=9, 4×4 blocks of spatial kernels too on other layers"),
        ({"data": "digits 5 to 9"}, "digits 5 to 9: no data set of Table 3."),
        ({"total": 701_345}, "a network of 701,345 parameters"),
        ({"trained": 1_044_992}, "1,044,992 trained parameters, not 1,110,528"),  # linear codes
    ],
)
def test_another_task_does_not(changes, reason):
    """One run of the paper's task, one of another: the paper's number is beside the first alone."""
    same, other = record(frechet=40.0), record(frechet=1.0, **changes)
    assert differing_settings(same) == []
    runs = table(same, other)
    assert beside_paper(runs)["measured"].dropna().tolist() == [40.0]
    assert "1 of 2 runs are of another task" in not_beside(runs)
    assert reason in not_beside(runs)
    alone = beside_paper(table(other))
    assert alone["measured"].isna().all()
    assert list(side_by_side(alone).columns.get_level_values(0).unique()) == ["paper"]


def test_what_the_paper_does_not_state_is_no_difference():
    changes = {"batch_size": 16, "guidance": 3.0, "sampling_steps": 25, "solver": "lasso", "seed": 3}
    assert differing_settings(record(**changes)) == []
    assert differing_settings(record("none", steps=7)) == []  # nothing was trained


def test_a_run_found_by_two_paths_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(generation_table({"flowers": record(), str(tmp_path / "flowers"): record(), "pets": record()})) == 2


def test_no_choice_is_made_among_settings():
    """Runs of one method with different seeds are averaged; a luckier one is not taken for the method."""
    runs = table(record(frechet=30.0), record(frechet=50.0, seed=1))
    assert beside_paper(runs)["measured"].dropna().tolist() == [40.0]
    assert beside_paper(runs.iloc[:0])["measured"].isna().all()
    assert not_beside(table()) == ""


@pytest.mark.parametrize("seed", [1, "0", None])
def test_a_seed_without_runs_is_named_with_those_there_are(seed):
    runs = table(record(seed=0), record(seed=2))
    assert runs_of_seed(runs, 2)["seed"].tolist() == [2]
    with pytest.raises(FiltersubError, match=f"no run of generation has seed {seed!r}; these have 0, 2"):
        runs_of_seed(runs, seed)
    assert runs_of_seed(table(), seed).empty
