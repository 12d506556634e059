"""Numbers at the doors of Python: what is none, out of range or of another type is refused by the argument's name."""

import math

import numpy as np
import pytest
import torch
from peft import get_peft_model
from torch import nn

from filtersub import DecompositionConfig, FilterSubspaceConfig, encode
from filtersub.data import first_images, load_data
from filtersub.decomposition import choose_atoms, decompose_model
from filtersub.diagnostics import (
    error_curve,
    frequent_supports,
    gap_table,
    penalty_path,
    reach,
    solver_table,
    storage_table,
    welch_bound,
)
from filtersub.errors import FiltersubError
from filtersub.metrics import image_folder, image_tensor, module_features
from filtersub.metrics.distance import frechet_distance, kernel_distance
from filtersub.metrics.statistics import FeatureStatistics, set_statistics
from filtersub.parameters import (
    GradientEnergy,
    allot,
    count_cost,
    count_parameters,
    load_architecture,
    parse_budget,
    suggest_settings,
)
from filtersub.sparse_coding import constrained_lasso, fista, ista, lasso, matching_pursuit

torch.manual_seed(0)
ROWS, ATOMS, CODES = torch.randn(12, 9), nn.functional.normalize(torch.randn(4, 9), dim=1), torch.randn(12, 4)
MODEL = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 3))
CONFIG = DecompositionConfig(atoms=3)
PICTURES = image_tensor(torch.randint(256, (8, 3, 8, 8), dtype=torch.uint8))


@pytest.fixture(scope="module")
def decomposed():
    return decompose_model(MODEL, CONFIG)


@pytest.fixture(scope="module")
def energy():
    return GradientEnergy(MODEL, torch.randn(6, 3, 8, 8), torch.arange(6) % 3)


NO_NUMBERS = (math.nan, math.inf, "3", b"3", True, 1 + 2j, [], np.array([]), np.float64("nan"), torch.tensor(3))
WHOLE = (*NO_NUMBERS, 1.5, np.float64(0.5), 1e-320, -1)
FROM_ONE = (*WHOLE, 0)
SINGLE = (*NO_NUMBERS, -1.0)

#: argument -> (its name in the message, the call, what is refused, what is taken)
DOORS = {
    "welch_bound, m": ("n_atoms", lambda v, **_: welch_bound(v, 9), FROM_ONE, np.int64(12)),
    "welch_bound, d": ("size", lambda v, **_: welch_bound(12, v), FROM_ONE, np.int32(9)),
    "frequent_supports": ("most", lambda v, decomposed, **_: frequent_supports(decomposed, v), FROM_ONE, np.int64(2)),
    "error_curve": ("atoms", lambda v, **_: error_curve(MODEL, CONFIG, [v]), FROM_ONE, np.int64(2)),
    "penalty_path": ("penalties", lambda v, **_: penalty_path(MODEL, CONFIG, [v]), SINGLE, np.float64(0.1)),
    "solver_table, l": ("l1_penalty", lambda v, **_: solver_table(ROWS, ATOMS, v, solvers=["ista"]), SINGLE, 2**70),
    "solver_table, repeats": (
        "repeats",
        lambda v, **_: solver_table(ROWS, ATOMS, 0.1, solvers=["ista"], repeats=v),
        (*FROM_ONE, 2**70),
        np.int64(1),
    ),
    "solver_table, nonzeros": (
        "n_nonzero",
        lambda v, **_: solver_table(ROWS, ATOMS, 0.1, solvers=["omp"], n_nonzero=v),
        FROM_ONE,
        np.int64(2),
    ),
    "gap_table, steps": (
        "steps",
        lambda v, **_: gap_table(ROWS, ATOMS, 0.1, solvers=["ista"], steps=(v,)),
        FROM_ONE,
        np.int64(2),
    ),
    "reach, m_1": ("per_channel", lambda v, **_: reach(CODES, ROWS, per_channel=v, channels=2), FROM_ONE, np.int64(1)),
    "reach, channels": ("channels", lambda v, **_: reach(CODES, ROWS, channels=v), FROM_ONE, np.int64(2)),
    "storage_table, steps": (
        "max_iter",
        lambda v, decomposed, **_: storage_table(MODEL, decomposed, max_iter=v),
        FROM_ONE,
        np.int64(1),
    ),
    "storage_table, seed": (
        "seed",
        lambda v, decomposed, **_: storage_table(MODEL, decomposed, max_iter=1, seed=v),
        (*WHOLE, 2**70),
        np.int64(1),
    ),
    "choose_atoms, error": (
        "max_error",
        lambda v, **_: choose_atoms(MODEL, CONFIG, max_error=v),
        (*SINGLE, 0, 1, 1.5),
        np.float32(0.9),
    ),
    "choose_atoms, most": (
        "most",
        lambda v, **_: choose_atoms(MODEL, CONFIG, max_error=0.9, most=v),
        (*FROM_ONE, 2**70),
        np.int64(9),
    ),
    "allot, budget": ("budget", lambda v, energy, **_: allot(energy, v), FROM_ONE, np.int64(300)),
    "allot, atoms": ("atoms", lambda v, energy, **_: allot(energy, 300, atoms=[v]), FROM_ONE, np.int64(3)),
    "allot, blocks": ("blocks", lambda v, energy, **_: allot(energy, 300, blocks=[v]), FROM_ONE, np.int64(2)),
    "allot, m_1": ("expansions", lambda v, energy, **_: allot(energy, 300, expansions=[v]), FROM_ONE, np.int64(2)),
    "suggest_settings": ("budget", lambda v, **_: suggest_settings(MODEL, v), FROM_ONE, np.int64(300)),
    "suggest_settings, top": ("top", lambda v, **_: suggest_settings(MODEL, 300, top=v), FROM_ONE, np.int64(1)),
    "parse_budget": ("total", lambda v, **_: parse_budget("10%", v), FROM_ONE, np.int64(1000)),
    "count_cost": (
        "image_size",
        lambda v, **_: count_cost(MODEL, count_parameters(MODEL, recipe=CONFIG), CONFIG, v),
        (*FROM_ONE, 2**70),
        8,
    ),
    "FeatureStatistics, width": ("width", lambda v, **_: FeatureStatistics(v), (*FROM_ONE, 2**70), np.int64(3)),
    "load_architecture": (
        "number of classes",
        lambda v, **_: load_architecture("resnet18", num_classes=v),
        (*FROM_ONE, 2**70),
        np.int64(3),
    ),
    "count_parameters, rank": (
        "rank",
        lambda v, **_: count_parameters(MODEL, "lora", rank=v),
        (*FROM_ONE, 2**70),
        np.int64(3),
    ),
    "load_data, part": (
        "validation",
        lambda v, **_: load_data("digits", size=8, validation=v),
        (math.nan, "3", "", 0, 1, None, torch.tensor(True)),
        np.True_,
    ),
    "FeatureStatistics, kept": ("kept", lambda v, **_: FeatureStatistics(3, kept=v), FROM_ONE, np.int64(3)),
    "FeatureStatistics, seed": ("seed", lambda v, **_: FeatureStatistics(3, seed=v), (*WHOLE, 2**70), 3),
    "set_statistics": (
        "batch_size",
        lambda v, **_: set_statistics(PICTURES, flat_pixels(), batch_size=v),
        FROM_ONE,
        np.int64(3),
    ),
    "image_folder, size": ("resize", lambda v, folder, **_: image_folder(folder, resize=v), (*FROM_ONE, 2**70), 8),
    "image_folder, most": ("at_most", lambda v, folder, **_: image_folder(folder, at_most=v), FROM_ONE, np.int64(1)),
    "load_data, size": ("image size", lambda v, **_: load_data("digits", size=v), (*FROM_ONE, 2**70), np.int64(8)),
    "load_data, n_train": ("n_train", lambda v, **_: load_data("digits", size=8, n_train=v), FROM_ONE, np.int64(20)),
    "load_data, seed": ("split_seed", lambda v, **_: load_data("digits", size=8, split_seed=v), (*WHOLE, 2**70), 3),
    "load_data, mean": ("mean", lambda v, **_: load_data("digits", size=8, mean=(v,) * 3), NO_NUMBERS, np.float64(0.5)),
    "load_data, std": ("std", lambda v, **_: load_data("digits", size=8, std=(v,) * 3), (*SINGLE, 0), np.float64(0.5)),
    "load_data, crop": (
        "judge_crop",
        lambda v, **_: load_data("digits", size=8, judge_crop=v),
        (*SINGLE, 0, 1.5),
        np.float64(0.5),
    ),
    "first_images": ("n_images", lambda v, digits, **_: first_images(digits, v), FROM_ONE, np.int64(2)),
    "lasso, steps": ("max_iter", lambda v, **_: lasso(ROWS, ATOMS, 0.1, max_iter=v), WHOLE, np.int64(99)),
    "lasso, tolerance": ("tol", lambda v, **_: lasso(ROWS, ATOMS, 0.1, tol=v), SINGLE, np.float64(1e-6)),
    "lasso, l": ("L1 penalty", lambda v, **_: lasso(ROWS, ATOMS, v), SINGLE, 2**70),
    "fista, steps": ("max_iter", lambda v, **_: fista(ROWS, ATOMS, 0.1, max_iter=v), WHOLE, np.int64(999)),
    "fista, tolerance": ("tol", lambda v, **_: fista(ROWS, ATOMS, 0.1, tol=v), SINGLE, np.float64(1e-3)),
    "ista, steps": ("max_iter", lambda v, **_: ista(ROWS, ATOMS, 0.1, max_iter=v), WHOLE, np.int64(9999)),
    "constrained_lasso": (
        "max_iter",
        lambda v, **_: constrained_lasso(ROWS, ATOMS, 9.0, max_iter=v),
        WHOLE,
        np.int64(99),
    ),
    "constrained_lasso, bound": ("max_residual", lambda v, **_: constrained_lasso(ROWS, ATOMS, v), (-1, "3", True), 9),
    "matching_pursuit": (
        "max_iter",
        lambda v, **_: matching_pursuit(ROWS, ATOMS, max_residual=9.0, max_iter=v),
        WHOLE,
        np.int64(99),
    ),
    "encode, nonzeros": ("n_nonzero", lambda v, **_: encode(ROWS, ATOMS, "omp", n_nonzero=v), FROM_ONE, np.int64(2)),
}


def flat_pixels():
    return module_features("pixels", nn.Flatten(), 192, lambda images: images.float().flatten(1))


@pytest.fixture(scope="module")
def surroundings(decomposed, energy, tmp_path_factory):
    from PIL import Image

    folder = tmp_path_factory.mktemp("pictures")
    for number in range(3):
        Image.fromarray(PICTURES.tensor[number].permute(1, 2, 0).numpy()).save(folder / f"{number}.png")
    digits = load_data("digits", size=8).judged
    return {"decomposed": decomposed, "energy": energy, "folder": folder, "digits": digits}


@pytest.mark.parametrize("door", DOORS)
def test_each_number_is_refused_by_its_name_or_taken(door, surroundings):
    name, call, refused, taken = DOORS[door]
    for value in refused:
        with pytest.raises(FiltersubError, match=name) as error:
            call(value, **surroundings)
        assert "\n" not in str(error.value)
    call(taken, **surroundings)


LISTS = {
    "error_curve": lambda v: error_curve(MODEL, CONFIG, v),
    "penalty_path": lambda v: penalty_path(MODEL, CONFIG, v),
    "gap_table": lambda v: gap_table(ROWS, ATOMS, 0.1, solvers=["ista"], steps=v),
    "load_data": lambda v: load_data("digits", size=8, mean=v),
}


@pytest.mark.parametrize("door", LISTS)
@pytest.mark.parametrize("value", [3, 0.5, math.nan, None, "3", b"3", [], (), np.array([]), torch.tensor(3), True])
def test_a_number_where_a_list_belongs_is_refused(door, value):
    with pytest.raises(FiltersubError, match="must be a list of at least one number"):
        LISTS[door](value)


FEATURES = {
    "one row": torch.ones(3),
    "other width": torch.ones(5, 4),
    "complex": torch.ones(5, 3, dtype=torch.complex64),
    "on meta": torch.ones(5, 3, device="meta"),
    "images": torch.ones(5, 3, 1),
}


@pytest.mark.parametrize("kind", FEATURES)
def test_features_of_other_shapes_and_types_are_refused(kind):
    with pytest.raises(FiltersubError, match=r"features must be real numbers of shape \(n, 3\), got"):
        FeatureStatistics(3).update(FEATURES[kind])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.uint8, torch.int64])
def test_features_of_every_real_type_and_layout_give_the_same_distance(dtype):
    rows = torch.randint(9, (40, 3), generator=torch.Generator().manual_seed(0))
    wanted, found, turned = FeatureStatistics(3), FeatureStatistics(3), FeatureStatistics(3)
    wanted.update(rows.double())
    found.update(rows.to(dtype))
    turned.update(rows.to(dtype).T.contiguous().T)
    for statistics in (found, turned):
        assert torch.equal(statistics.covariance, wanted.covariance)
        assert torch.equal(statistics.sample, wanted.sample)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
@pytest.mark.parametrize("count", [0, 1])
def test_a_distance_of_too_few_images_says_so(distance, count):
    few, many = FeatureStatistics(3), FeatureStatistics(3)
    few.update(torch.randn(count, 3))
    many.update(torch.randn(9, 3))
    for pair in ((few, many), (many, few)):
        with pytest.raises(FiltersubError, match="needs two images of each set at least"):
            distance(*pair)


def test_where_no_solver_ran_the_reason_is_told():
    with pytest.raises(FiltersubError, match=r"no solver ran: omp: .*\(of 4 atoms\) must be at most 4, got 5"):
        solver_table(ROWS, ATOMS, 0.1, solvers=["omp"], n_nonzero=5)


def weightless(layer):
    layer.weight = None
    return layer


ODD_LAYERS = {
    "complex": (nn.Sequential(nn.Conv2d(3, 4, 3, dtype=torch.complex64)), "layer '0' has weights of type complex64"),
    "empty alone": (nn.Sequential(nn.Conv2d(3, 0, 3)), "no layer can be decomposed"),
    "lazy alone": (nn.Sequential(nn.LazyConv2d(4, 3)), "no layer can be decomposed.*run the model once, its lazy"),
    "lazy and transposed": (nn.Sequential(nn.LazyConvTranspose1d(4, 3)), "run the model once, its lazy layers"),
    "the model itself": (nn.Conv1d(3, 4, 3), r"the model is a layer itself, give nn\.Sequential\(layer\)"),
    "without a weight": (nn.Sequential(weightless(nn.Conv2d(3, 4, 3))), "no layer can be decomposed"),
    "transposed without one": (nn.Sequential(weightless(nn.ConvTranspose2d(3, 4, 3))), "no layer can be decomposed"),
}


@pytest.mark.parametrize("kind", ODD_LAYERS)
def test_layers_that_hold_no_kernel_are_refused_by_name(kind):
    model, message = ODD_LAYERS[kind]
    with pytest.raises(FiltersubError, match=message):
        decompose_model(model, CONFIG)


def test_a_layer_with_an_empty_side_takes_no_part():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 0, 3), nn.ConvTranspose2d(0, 4, 3))
    assert list(decompose_model(model, CONFIG).layers) == ["0"]
    tuned = get_peft_model(model, FilterSubspaceConfig(atoms=3))
    trained = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    assert count_parameters(model, recipe=CONFIG).trainable == trained == 27


def test_a_lazy_layer_is_not_counted_before_it_has_a_shape():
    with pytest.raises(FiltersubError, match=r"0\.weight has no shape before its lazy layer first runs"):
        count_parameters(nn.Sequential(nn.LazyConv2d(4, 3), nn.Conv2d(4, 4, 3)))
