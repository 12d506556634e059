"""Recipes: every value has its source, and nothing that is not a setting gets in."""

import pytest

from filtersub.errors import FiltersubError
from filtersub.experiment.settings import TuneSettings
from filtersub.recipes import load_recipe, recipe_names


def test_the_recipes_of_the_paper_are_there():
    assert recipe_names() == ["cifar100", "embedded", "imagenet1k", "validation-experiment", "vtab1k"]


@pytest.mark.parametrize("name", recipe_names())
def test_every_value_has_a_source(name):
    recipe = load_recipe(name)
    assert recipe.title
    assert recipe.paper
    assert set(recipe.settings) == set(recipe.sources)
    assert all(len(source) >= 7 for source in recipe.sources.values())
    assert list(recipe.table()["setting"]) == list(recipe.settings)
    assert isinstance(recipe.settings_with(**dict.fromkeys(recipe.needs, "digits")), TuneSettings)


def test_the_validation_experiment_is_as_printed():
    settings = load_recipe("validation-experiment").settings_with()
    printed = {"epochs": 50, "optimizer": "adam", "learning_rate": 1e-3, "weight_decay": 1e-4, "batch_size": 256}
    assert {name: getattr(settings, name) for name in printed} == printed


@pytest.mark.parametrize(("name", "epochs", "warmup"), [("cifar100", 100, 10), ("imagenet1k", 30, 5)])
def test_table_2_is_as_printed(name, epochs, warmup):
    settings = load_recipe(name).settings_with()
    found = settings.epochs, settings.warmup_epochs, settings.optimizer, settings.schedule
    assert found == (epochs, warmup, "adamw", "cosine")


def test_the_embedded_recipe_is_the_default():
    assert load_recipe("embedded").settings_with() == TuneSettings()


def test_overrides_win_and_needs_are_asked_for():
    assert load_recipe("validation-experiment").settings_with(expansion=4, epochs=1).label == "atoms m=9 over m₁=4"
    with pytest.raises(FiltersubError, match="the recipe 'vtab1k' needs --data"):
        load_recipe("vtab1k").settings_with()
    with pytest.raises(FiltersubError, match="unknown setting 'epoch' in settings; did you mean epochs"):
        load_recipe("embedded").settings_with(epoch=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("settings: {epoch: {value: 3, source: mine}}", r"unknown setting 'epoch' in .*; did you mean epochs\?"),
        ("settings: {epochs: 3}", "epochs must be {value: ..., source: ...}, got 3"),
        ("settings: {epochs: {value: 3, source: ''}}", "epochs must be {value"),
        ("settings: {epochs: {value: many, source: mine}}", "epochs must be int, got 'many'"),
        ("settings: {epochs: {value: true, source: mine}}", "epochs must be int, got True"),
        ("settings: {weight_decay: {value: 1e-4, source: mine}}", "weight_decay must be float, got '1e-4'"),
        ("settings: {epochs: {value: 0, source: mine}}", "epochs must be at least 1, got 0"),
        ("settings: {learning_rate: {value: high, source: mine}}", "a positive number or 'choose', got 'high'"),
        ("setting: {}", "must hold title, paper, settings, needs"),
        ("- a", "must hold title"),
        ("a: [", "is not YAML"),
    ],
)
def test_bad_recipes_are_named(text, message, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(FiltersubError, match=message):
        load_recipe(path)


def test_unknown_recipes_are_named():
    with pytest.raises(FiltersubError, match=r"unknown recipe 'cifar10'; known: cifar100, .*; did you mean cifar100"):
        load_recipe("cifar10")
    with pytest.raises(FiltersubError, match=r"cannot read .*none\.yaml"):
        load_recipe("/none.yaml")
