"""Settings in groups: stored nested, made and read by flat names, recorded as a flat list."""

import copy
import json
import pickle
from dataclasses import fields, replace
from pathlib import Path

import pytest

from filtersub import DecompositionConfig, TuneSettings
from filtersub.errors import FiltersubError
from filtersub.experiment.settings import StartSettings, settings_from
from filtersub.generation import DenoisingConfig, MethodSettings
from filtersub.generation.diffusion_run import DiffusionSettings
from filtersub.generation.digits_run import DigitsSettings
from filtersub.methods import MethodOptions
from filtersub.records import read_record
from filtersub.setting_fields import DiffusionFields, TuneFields
from filtersub.training import TrainingConfig

STORED = sorted((Path(__file__).parents[1] / "reports" / "sample" / "runs").glob("tuning-*"))
KINDS = {
    TuneSettings: (DecompositionConfig, StartSettings, MethodOptions, TrainingConfig),
    MethodSettings: (DecompositionConfig, MethodOptions),
    DiffusionSettings: (DecompositionConfig, MethodOptions, DenoisingConfig),
    DigitsSettings: (DecompositionConfig, MethodOptions, DenoisingConfig),
}
NEEDED = {DiffusionSettings: {"pipeline": "sd", "data": "flowers"}}


@pytest.mark.parametrize("kind", KINDS)
def test_groups_hold_their_settings_and_the_flat_names_read_them(kind):
    made = kind(**NEEDED.get(kind, {}), atoms=5, seed=3, rank=2)
    assert tuple(type(value) for value in vars(made).values() if hasattr(value, "__dataclass_fields__")) == KINDS[kind]
    assert "atoms" not in vars(made)
    assert (made.atoms, made.recipe.atoms, made.options.rank) == (5, 5, 2)
    assert {group.seed for group in vars(made).values() if hasattr(group, "seed")} == {made.seed} == {3}
    assert list(made.parameters) == [field.name for field in fields(kind.FLAT)]
    for same in (kind(**made.parameters), replace(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert same == made
        assert repr(same) == repr(made)
    with pytest.raises(TypeError, match=rf"{kind.__name__}.__init__\(\) got an unexpected keyword argument 'atom'"):
        kind(**NEEDED.get(kind, {}), atom=5)
    with pytest.raises(AttributeError, match=f"'{kind.__name__}' object has no attribute 'atom'"):
        _ = made.atom


def test_flat_names_are_those_of_the_command_line():
    assert [*TuneSettings().parameters] == [field.name for field in fields(TuneFields)]
    assert {field.name for field in fields(DiffusionSettings.FLAT)} == {field.name for field in fields(DiffusionFields)}


@pytest.mark.parametrize("folder", STORED, ids=lambda folder: folder.name)
def test_stored_records_are_read_as_they_were_written(folder):
    stored = read_record(folder).parameters
    found = settings_from(stored, str(folder)).parameters
    assert json.dumps({name: found[name] for name in stored}) == json.dumps(stored)


def test_groups_given_whole():
    recipe, training = DecompositionConfig(atoms=6, max_rounds=7), TrainingConfig(epochs=3, learning_rate=0.5)
    made = TuneSettings(recipe=recipe, training=training, rank=4)
    stated = {"learning_rate": 0.5, "batch_norm": "recomputed"}  # a group given whole states its defaults too
    assert made == TuneSettings(atoms=6, max_rounds=7, epochs=3, rank=4, **stated)
    assert made.recipe == recipe
    assert replace(made, epochs=4).recipe == recipe
    assert MethodSettings(recipe=recipe).recipe == replace(MethodSettings(recipe=recipe), rank=3).recipe == recipe
    assert TuneSettings(recipe=recipe, atoms=8).recipe.atoms == 8
    with pytest.raises(FiltersubError, match="seed is 1 and 0 in two groups; give it beside them"):
        TuneSettings(recipe=DecompositionConfig(seed=1), training=training)
    assert TuneSettings(recipe=DecompositionConfig(seed=1), training=training, seed=2).recipe.seed == 2


def test_a_rate_that_is_to_be_chosen_stands_beside_the_training():
    made = TuneSettings(learning_rate="choose", rates=[0.1, 0.2], epochs=3)
    assert (made.learning_rate, made.training.learning_rate) == ("choose", 0.1)
    assert made.with_rate(0.2).training == replace(made.training, learning_rate=0.2)
    assert replace(made, epochs=4).learning_rate == "choose"
    assert TuneSettings(method="boft").training.channels_last is False


def test_settings_that_were_left_out_are_found_anew_when_others_are_replaced():
    """Of another method, block or start: its own usual rate and batch norm, not the earlier one's."""
    atoms = TuneSettings()
    for change in (
        {"method": "lokr"},
        {"method": "full"},
        {"block": 4, "batch_norm": "updated"},
        {"pretrained": False},
    ):
        changed = replace(atoms, **change)
        assert changed == TuneSettings(**change)
        assert changed.training.learning_rate == changed.learning_rate == TuneSettings(**change).learning_rate
    there_and_back = replace(replace(atoms, method="full", pretrained=False), method="filter-subspace", pretrained=True)
    assert there_and_back == atoms
    assert replace(TuneSettings(learning_rate="choose"), method="full").candidate_rates == (3e-5, 9e-5, 3e-4, 9e-4)
    for copied in (replace(atoms), copy.deepcopy(atoms), pickle.loads(pickle.dumps(atoms))):
        assert replace(copied, method="full") == TuneSettings(method="full")


def test_settings_that_were_given_stay_when_others_are_replaced():
    given = TuneSettings(learning_rate=0.003, head_learning_rate=0.1, batch_norm="frozen")
    changed = replace(given, method="lokr", pretrained=False)
    assert (changed.learning_rate, changed.head_learning_rate, changed.batch_norm) == (0.003, 0.1, "frozen")
    assert replace(TuneSettings(), method="lokr", learning_rate=0.003).learning_rate == 0.003
    usual = TuneSettings().learning_rate  # of other settings: taken as any number is
    assert TuneSettings(method="lokr", learning_rate=usual).learning_rate == usual
    assert replace(replace(TuneSettings(), learning_rate=usual), method="lokr").learning_rate == usual
    read = settings_from(json.loads(json.dumps(TuneSettings().parameters)), "here")
    assert replace(read, method="lokr").learning_rate == 0.003  # a record states what ran
    assert type(TuneSettings().parameters["learning_rate"]) is type(TuneSettings().training.learning_rate) is float


def test_generation_finds_usual_rates_and_warm_ups_anew():
    made = DiffusionSettings(pipeline="sd", data="flowers", method="lora")
    assert replace(made, method="full") == DiffusionSettings(pipeline="sd", data="flowers", method="full")
    assert replace(made, learning_rate=1e-3, method="full").training.learning_rate == 1e-3
    assert replace(DigitsSettings(steps=5), steps=40) == DigitsSettings(steps=40)
