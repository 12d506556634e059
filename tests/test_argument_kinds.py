"""Settings, networks, names of layers and classes at the doors of Python: each of another kind is refused by name."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from filtersub import (
    DecompositionConfig,
    TuneSettings,
    choose_atoms,
    count_parameters,
    decompose_model,
    diagnostics,
    load_model,
    sharing_table,
    tune,
)
from filtersub.attribution import grad_cam
from filtersub.decomposition import decompose_weight
from filtersub.diagnostics import error_curve, penalty_path
from filtersub.errors import FiltersubError
from filtersub.experiment import decompose_run
from filtersub.explore import Explorer, kernel_html
from filtersub.generation import DenoisingConfig, fit_denoiser, inject_method
from filtersub.generation.digits_run import digits_run
from filtersub.kernels import find_module, layout_of, select_layers
from filtersub.methods import METHODS, inject
from filtersub.parameters import GradientEnergy, compare_methods, count_cost, suggest_settings
from filtersub.recipe_file import write_recipe
from filtersub.studies import (
    allotment_study,
    attribution_study,
    model_study,
    penalty_study,
    sharing_study,
    span_study,
)
from filtersub.training import TrainingConfig, evaluate, fit

CONFIG = DecompositionConfig(atoms=3)
IMAGES, LABELS = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])


def network():
    body = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(4, 3))


def fitted(config=None, head=None, labels=LABELS):
    images = TensorDataset(IMAGES, labels)
    return fit(network(), images, images, 3, config or TrainingConfig(epochs=1, batch_size=2), head=head)


#: (argument, class it must be) -> calls with another value in an empty folder
SETTINGS = {
    ("config", "DecompositionConfig"): {
        "decompose_model": lambda v, out: decompose_model(network(), v),
        "decompose_weight": lambda v, out: decompose_weight(layout_of("0", network()[0]), network()[0], v),
        "choose_atoms": lambda v, out: choose_atoms(network(), v, max_error=0.5),
        "error_curve": lambda v, out: error_curve(network(), v, [2]),
        "penalty_path": lambda v, out: penalty_path(network(), v, [0.1]),
        "decompose_run": lambda v, out: decompose_run(out, config=v),
        "penalty_study": lambda v, out: penalty_study(out, config=v),
        "model_study": lambda v, out: model_study(out, config=v),
    },
    ("recipe", "DecompositionConfig"): {
        "inject": lambda v, out: inject(network(), "filter-subspace", "5", recipe=v),
        "inject, which has no use for it": lambda v, out: inject(network(), "linear", "5", recipe=v),
        "count_parameters": lambda v, out: count_parameters(network(), recipe=v),
        "count_cost": lambda v, out: count_cost(network(), count_parameters(network(), recipe=CONFIG), v, 8),
        "write_recipe": lambda v, out: write_recipe(out / "recipe.yaml", v),
        "GradientEnergy": lambda v, out: GradientEnergy(network(), IMAGES, LABELS).score(v, ["0"]),
    },
    ("options", "MethodOptions"): {
        name: lambda v, out, name=name: inject(network(), name, "5", options=v) for name in ("lora", "linear", "ssf")
    },
    ("options", "BaselineOptions"): {"count_parameters": lambda v, out: count_parameters(network(), "lora", options=v)},
    ("count", "ParameterCount"): {"count_cost": lambda v, out: count_cost(network(), v, CONFIG, 8)},
    ("settings", "TuneSettings"): {"tune": lambda v, out: tune(v, out)},
    ("settings", "DigitsSettings"): {"digits_run": lambda v, out: digits_run(v, out)},
    ("settings", "MethodSettings"): {"inject_method": lambda v, out: inject_method(network(), v)},
    ("data", "DenoisingSet"): {"fit_denoiser": lambda v, out: fit_denoiser(network(), None, v, DenoisingConfig())},
    ("config", "TrainingConfig"): {"fit": lambda v, out: fitted(v)},
    ("tuning", "TuneSettings"): {
        "penalty_study": lambda v, out: penalty_study(out, tuning=v),
        "sharing_study": lambda v, out: sharing_study(out, v),
        "allotment_study": lambda v, out: allotment_study(out, v),
        "span_study": lambda v, out: span_study(out, v),
    },
    ("each of runs", "TuneSettings"): {"attribution_study": lambda v, out: attribution_study(out, [v])},
}


@pytest.mark.parametrize(
    ("argument", "kind", "call"), [(*key, name) for key, calls in SETTINGS.items() for name in calls], ids=str
)
@pytest.mark.parametrize(
    "value", ["nope", {"atoms": 3}, 3, [np.ones((3, 3))]], ids=["text", "mapping", "number", "of several lines"]
)
def test_settings_of_another_kind_are_refused_by_name_and_leave_nothing(argument, kind, call, value, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(FiltersubError, match=rf"^{argument} must be a {kind}, got .*; give {kind}\(\.\.\.\)$"):
        SETTINGS[argument, kind][call](value, out)
    assert not out.exists()


MODELS = {
    "inject": lambda v: inject(v, "linear", "5"),
    "decompose_model": lambda v: decompose_model(v, CONFIG),
    "choose_atoms": lambda v: choose_atoms(v, CONFIG, max_error=0.5),
    "compare_methods": lambda v: compare_methods(v),
    "suggest_settings": lambda v: suggest_settings(v, 300),
    "error_curve": lambda v: error_curve(v, CONFIG, [2]),
    "grad_cam": lambda v: grad_cam(v, IMAGES, layer="0"),
}


@pytest.mark.parametrize("call", MODELS)
@pytest.mark.parametrize("value", [{"0.weight": 3}, 3, None], ids=["mapping", "number", "nothing"])
def test_what_is_no_network_is_refused(call, value):
    if call == "grad_cam":
        pytest.importorskip("pytorch_grad_cam")
    with pytest.raises(FiltersubError, match=r"^model must be a torch\.nn\.Module.*, got .*; filtersub\.load_model"):
        MODELS[call](value)


TABLES = {
    **{name: lambda v, name=name: getattr(diagnostics, name)(v) for name in
       ("layer_table", "model_table", "level_table", "convergence_table", "atom_table", "coherence_table",
        "correlation_table", "correlation_quantiles", "support_table", "frequent_supports")},
    **{name: lambda v, name=name: getattr(diagnostics, name)(network(), v) for name in
       ("cost_table", "kernel_table", "kernel_quantiles", "energy_table", "spectrum_table", "subspace_table",
        "storage_table")},
    **{name: lambda v, name=name: getattr(diagnostics, name)(network(), v, [IMAGES]) for name in
       ("output_table", "prediction_table")},
    "span_table": lambda v: diagnostics.span_table(network(), network(), v),
    "sharing_table": lambda v: sharing_table(v, v),
}  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("value", ["atoms.safetensors", {}, None])
def test_what_is_no_decomposition_is_refused(table, value):
    with pytest.raises(
        FiltersubError, match=r"^the decomposition must be a ModelDecomposition, got .*; decompose_model"
    ):
        TABLES[table](value)


@pytest.mark.parametrize("number", [-1, 12, 1.5, "0", None])
def test_a_kernel_that_was_not_looked_at_is_refused(number):
    look = Explorer(network()).look("0", 2)
    assert look.looked_at == 12
    with pytest.raises(FiltersubError, match=r"^number must "):
        kernel_html(look, number)


@pytest.mark.parametrize("value", [3, {"a": 1}, None, b"resnet18"])
def test_names_that_are_no_text_are_refused(value):
    with pytest.raises(FiltersubError, match=r"^model must be the name of a model, got "):
        load_model(value)
    for name in ("model", "data", "optimizer"):
        with pytest.raises(FiltersubError, match=f"^{name} must be text, got "):
            TuneSettings(**{name: value})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("head", ["nope", "", 77, {"name": "5"}])
def test_a_head_that_the_network_lacks_is_refused_and_nothing_changed(method, head):
    model = network()
    with pytest.raises(FiltersubError, match=r"^the model has no head .*; its modules are named like '5'$"):
        inject(model, method, head)
    assert all(p.requires_grad for p in model.parameters())
    assert [type(layer) for layer in model] == [type(layer) for layer in network()]


@pytest.mark.parametrize("head", ["nope", "", 3])
def test_training_refuses_a_head_that_the_network_lacks(head):
    with pytest.raises(FiltersubError, match=r"^the model has no head "):
        fitted(head=head)


def test_near_names_of_layers_are_told():
    model = nn.ModuleDict({"stem": nn.Conv2d(3, 4, 3), "head": nn.Linear(4, 3)})
    assert find_module(model, "head") is model["head"]
    with pytest.raises(FiltersubError, match=r"^the model has no layer 'heads'; did you mean 'head'\?$"):
        find_module(model, "heads")


@pytest.mark.parametrize("exclude", ["0", b"0", 3, [3], {"0": 1}, None])
def test_layers_left_out_are_a_list_of_names(exclude):
    with pytest.raises(FiltersubError, match=r"^exclude must be a list of names, got "):
        decompose_model(network(), CONFIG, exclude=exclude)
    with pytest.raises(FiltersubError, match=r"^exclude must be a list of names, got "):
        error_curve(network(), CONFIG, [2], exclude=exclude)


def test_a_layer_left_out_is_one_of_the_network():
    with pytest.raises(FiltersubError, match=r"^the model has no layer '7'"):
        select_layers(network(), block=1, exclude=("5", "7"))
    assert list(select_layers(network(), block=1, exclude=iter(["5"]))) == ["0"]


LABEL_FAULTS = {
    "a class too many": ([0, 1, 2, 3], "label 3 of image 3 is no class: they are 0 to 2"),
    "below zero": (torch.tensor([0, -1, 2, 0]), "label -1 of image 1 is no class: they are 0 to 2"),
    "too few": (torch.tensor([0, 1]), "2 labels are not one for each of 4 images"),
    "too many": ([0, 1, 2, 0, 1], "5 labels are not one for each of 4 images"),
    "one": (torch.tensor(1), "labels must be a list of whole numbers"),
    "shares": (torch.tensor([0.5, 1, 2, 0]), "labels must be a list of whole numbers"),
    "columns": (LABELS[:, None], "labels must be a list of whole numbers"),
    "switches": (LABELS > 0, "labels must be a list of whole numbers"),
    "text": ("0120", "labels must be a list of whole numbers"),
}
LABELLED = {
    "grad_cam": lambda labels, model: grad_cam(model, IMAGES, layer="0", labels=labels),
    "GradientEnergy": lambda labels, model: GradientEnergy(model, IMAGES, labels),
}


@pytest.mark.parametrize("door", LABELLED)
@pytest.mark.parametrize("fault", LABEL_FAULTS)
def test_labels_that_are_no_classes_are_refused(door, fault):
    if door == "grad_cam":
        pytest.importorskip("pytorch_grad_cam")
    labels, message = LABEL_FAULTS[fault]
    model = network()
    with pytest.raises(FiltersubError, match=f"^{message}"):
        LABELLED[door](labels, model)
    assert model.training
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("label", [3, -1])
@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_training_refuses_labels_that_are_no_classes(label, mixup):
    with pytest.raises(FiltersubError, match=f"^label {label} of an image is no class: they are 0 to 2$"):
        fitted(TrainingConfig(epochs=1, batch_size=4, mixup=mixup), labels=torch.tensor([0, 1, 2, label]))


@pytest.mark.parametrize("label", [3, -1])
def test_judging_refuses_labels_that_are_no_classes(label):
    batches = [(IMAGES, LABELS), (IMAGES, torch.tensor([0, label, 2, 0]))]
    with pytest.raises(FiltersubError, match=f"^label {label} of an image is no class: they are 0 to 2$"):
        evaluate(network(), batches, 3)
