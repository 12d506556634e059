"""Recipes: every value has its source, and nothing that is not a setting gets in."""

import pytest

from filtersub.errors import FiltersubError
from filtersub.experiment.settings import TuneSettings
from filtersub.recipes import load_recipe, recipe_names


def test_the_recipes_of_the_paper_are_there():
    experiments = ["validation-experiment", "validation-experiment-authors"]
    assert recipe_names() == ["cifar100", "embedded", "imagenet1k", *experiments, "vtab1k"]


@pytest.mark.parametrize("name", recipe_names())
def test_every_value_has_a_source(name):
    recipe = load_recipe(name)
    assert recipe.title
    assert recipe.paper
    assert set(recipe.settings) == set(recipe.sources)
    assert all(len(source) >= 7 for source in recipe.sources.values())
    table = recipe.table()
    assert list(table[table["method"] == ""]["setting"]) == list(recipe.settings)
    assert set(table["method"]) == {"", *recipe.methods}
    assert all(table["source"].str.len() >= 7)
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


#: SSF's public ConvNeXt scripts (Lian et al., arXiv:2210.08823), which the paper follows: batch, drop path
SSF = {"cifar100": (4 * 32, 0.0), "imagenet1k": (8 * 32, 0.1)}


@pytest.mark.parametrize("name", SSF)
def test_table_2_follows_the_scripts_that_the_paper_cites(name):
    recipe = load_recipe(name)
    batch, drop_path = SSF[name]
    common = {"batch_size": batch, "weight_decay": 0.05, "ema_decay": 0.99992, "ema_warmup": False, "judge_crop": 0.875}
    common |= {"label_smoothing": 0.1, "mixup": 0.8, "cutmix": 1.0, "augmentation": "timm", "image_size": 224}
    few = {"learning_rate": 1e-3, "head_learning_rate": 1e-3, "warmup_rate": 1e-7, "min_rate": 1e-8}
    own = {
        "filter-subspace": few | {"drop_path": drop_path},
        "lora": few | {"drop_path": drop_path},
        "linear": few | {"drop_path": drop_path, "warmup_rate": 5e-7, "min_rate": 5e-8},
        "full": {"drop_path": 0.2, "warmup_rate": 5e-7, "min_rate": 5e-8}
        | dict.fromkeys(("learning_rate", "head_learning_rate"), 5e-5),
    }
    for method, wanted in own.items():
        settings = recipe.settings_with(method=method)
        assert {key: getattr(settings, key) for key in common | wanted} == common | wanted, method
        assert all(recipe.sources_for(method)[key].startswith("cited") for key in common | wanted)
    assert recipe.settings_with(method="full", drop_path=0.5).drop_path == 0.5


def test_the_authors_script_differs_from_the_text_where_it_is_known_to():
    text, script = (load_recipe(f"validation-experiment{end}") for end in ("", "-authors"))
    one, other = text.settings_with(), script.settings_with()
    differing = {name: getattr(other, name) for name in script.settings if getattr(other, name) != getattr(one, name)}
    assert differing == {
        **{"model": "resnet50.tv2_in1k", "batch_size": 128, "head_dropout": 0.5, "augmentation": "crop-flip"},
        **{"judge_crop": 224 / 256, "workers": 4},
    }
    assert one.augmentation == "none"
    assert all(
        source.startswith(("printed", "not printed", "authors' script", "images are"))
        for source in script.sources.values()
    )


def test_the_embedded_recipe_is_the_default():
    assert load_recipe("embedded").settings_with() == TuneSettings()


def test_overrides_win_and_needs_are_asked_for():
    assert load_recipe("validation-experiment").settings_with(expansion=4, epochs=1).label == "atoms m=9 over m₁=4"
    with pytest.raises(FiltersubError, match="the recipe 'vtab1k' needs --data"):
        load_recipe("vtab1k").settings_with()
    with pytest.raises(FiltersubError, match="unknown setting 'epoch' in settings; did you mean 'epochs'"):
        load_recipe("embedded").settings_with(epoch=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("settings: {epoch: {value: 3, source: mine}}", r"unknown setting 'epoch' in .*; did you mean 'epochs'\?"),
        ("settings: {epochs: 3}", "epochs must be {value: ..., source: ...}, got 3"),
        ("settings: {epochs: {value: 3, source: ''}}", "epochs must be {value"),
        ("settings: {epochs: {value: many, source: mine}}", "epochs must be int, got 'many'"),
        ("settings: {epochs: {value: true, source: mine}}", "epochs must be int, got True"),
        ("settings: {weight_decay: {value: 1e-4, source: mine}}", "weight_decay must be float, got '1e-4'"),
        ("settings: {epochs: {value: 0, source: mine}}", "epochs must be at least 1, got 0"),
        ("settings: {learning_rate: {value: high, source: mine}}", "a positive number or 'choose', got 'high'"),
        ("setting: {}", "must hold title, paper, settings, needs, methods"),
        ("- a", "must hold title"),
        ("{settings: {}, methods: [full]}", "methods must hold settings by name for each method"),
        ("{settings: {}, methods: {fulll: {}}}", "unknown method 'fulll'"),
        ("{settings: {}, methods: {full: {epochs: 3}}}", "epochs must be {value"),
        ("{settings: {}, methods: {full: {epochs: {value: 0, source: mine}}}}", "epochs must be at least 1, got 0"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_bad_recipes_are_named(text, message, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(FiltersubError, match=message):
        load_recipe(path)


def test_unknown_recipes_are_named():
    with pytest.raises(
        FiltersubError, match=r"unknown recipe 'cifar10'; did you mean 'cifar100'\? Known: cifar100, .*, or a YAML file"
    ):
        load_recipe("cifar10")
    with pytest.raises(FiltersubError, match=r"cannot read .*none\.yaml"):
        load_recipe("/none.yaml")
