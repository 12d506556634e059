"""Adapters and weights of runs that were cut, mixed or changed by hand: one line that names them, no wrong number."""

import copy
import json
import shutil
from dataclasses import replace

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

from filtersub import FilterSubspaceConfig
from filtersub.decomposition import DecompositionConfig
from filtersub.errors import FiltersubError
from filtersub.experiment import TuneSettings
from filtersub.experiment.saved_weights import ADAPTER_FOLDER, STATISTICS_FILE, load_trained, save_trained
from filtersub.methods import METHODS, MethodOptions, inject
from filtersub.tuning import FilterSubspaceLayer

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
SETTINGS = TuneSettings(model="test_resnet", pretrained=False, solver="pca", rank=2)


def network():
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ConvTranspose2d(6, 4, 3), nn.Conv2d(4, 4, 1))
    return nn.Sequential(*layers)


FORMS = {
    "atoms": {"solver": "pca"},
    "expanded": {"solver": "pca", "expansion": 2},
    "blocked": {"solver": "pca", "block": 2},
    "alpha in blocks": {"solver": "pca", "block": 2, "block_coefficients": True},
    "alpha trained": {"solver": "pca", "train_coefficients": True},
    "coefficients stored": {"solver": "pca", "save_coefficients": True},
}


def saved(folder, **settings):
    tuned = get_peft_model(network(), FilterSubspaceConfig(atoms=3, **settings))
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
    tuned.save_pretrained(folder)
    return tuned


def edited(change):
    def edit(folder, key):
        tensors = load_file(folder / WEIGHTS)
        change(tensors, key)
        save_file(tensors, folder / WEIGHTS)

    return edit


DAMAGE = {
    "gone": (edited(lambda tensors, key: tensors.pop(key)), "lacks filtersub_"),
    "NaN": (edited(lambda tensors, key: tensors[key].view(-1)[:1].fill_(float("nan"))), "no finite numbers"),
    "infinite": (edited(lambda tensors, key: tensors[key].view(-1)[-1:].fill_(float("inf"))), "no finite numbers"),
    "whole numbers": (edited(lambda tensors, key: tensors.update({key: tensors[key].int()})), "no finite numbers"),
    "shorter": (edited(lambda tensors, key: tensors.update({key: tensors[key].flatten()[:1].clone()})), "of shape"),
    "another order": (edited(lambda tensors, key: tensors.update({key: tensors[key][None]})), "of shape"),
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("form", FORMS)
def test_each_trained_tensor_of_an_adapter_is_looked_at(form, kind, tmp_path):
    tuned = saved(tmp_path / "whole", **FORMS[form])
    trained = [name for name, p in tuned.named_parameters() if p.requires_grad and "filtersub" in name]
    change, message = DAMAGE[kind]
    for name in trained:
        folder = tmp_path / "damaged"
        shutil.copytree(tmp_path / "whole", folder)
        change(folder, name.replace(".default", ""))
        with pytest.raises(FiltersubError, match=message) as raised:
            PeftModel.from_pretrained(network(), str(folder))
        assert "\n" not in str(raised.value)
        shutil.rmtree(folder)
    whole = PeftModel.from_pretrained(network(), str(tmp_path / "whole"))
    assert all(isinstance(whole.get_base_model()[place], FilterSubspaceLayer) for place in (0, 2))


def test_files_of_two_adapters_are_refused(tmp_path):
    saved(tmp_path / "three", solver="pca")
    saved(tmp_path / "two", solver="pca", expansion=2)
    shutil.copy(tmp_path / "two" / WEIGHTS, tmp_path / "three" / WEIGHTS)
    with pytest.raises(FiltersubError, match="config and weights are of two adapters"):
        PeftModel.from_pretrained(network(), str(tmp_path / "three"))


def halved(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


RUNS = {
    "weights cut": (lambda place: halved(place / WEIGHTS), "cannot read .*adapter: "),
    "weights empty": (lambda place: (place / WEIGHTS).write_bytes(b""), "cannot read .*adapter: "),
    "weights gone": (lambda place: (place / WEIGHTS).unlink(), f"has no {WEIGHTS}"),
    "config cut": (lambda place: halved(place / CONFIG), "cannot read .*adapter: "),
    "config gone": (lambda place: (place / CONFIG).unlink(), f"has no {CONFIG}"),
    "config of a list": (lambda place: (place / CONFIG).write_text("[]"), "cannot read .*adapter: "),
    "config of nothing": (lambda place: (place / CONFIG).write_text("null"), "cannot read .*adapter: "),
    "config of no method": (
        lambda place: (place / CONFIG).write_text(json.dumps({"peft_type": "X"})),
        "cannot read .*adapter: ",
    ),
}


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("method", ["filter-subspace", "lora"])
def test_the_adapter_of_a_run_is_read_whole_or_refused(method, kind, every_kind, tmp_path):
    recipe, options = DecompositionConfig(atoms=3, solver="pca"), MethodOptions(rank=2)
    model = inject(every_kind, method, "classifier", recipe=recipe, options=options).model
    settings = replace(SETTINGS, method=method)
    save_trained(model, settings, tmp_path)
    damage, message = RUNS[kind]
    damage(tmp_path / ADAPTER_FOLDER)
    with pytest.raises(FiltersubError, match=message) as raised:
        load_trained(type(every_kind)(), settings, tmp_path)
    assert "\n" not in str(raised.value)


def tensors_of(change):
    def edit(file):
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file)

    return edit


PLAIN = {
    "cut": (halved, "truncated|damaged|cannot"),
    "a buffer gone": (tensors_of(lambda found: found.pop("norm.running_mean")), "lacks 'norm.running_mean'"),
    "the head gone": (tensors_of(lambda found: found.pop("classifier.weight")), "lacks 'classifier.weight'"),
    "of another model": (tensors_of(lambda found: found.update(other=torch.ones(2))), "has 'other', which the model"),
    "another shape": (
        tensors_of(lambda found: found.update({"classifier.bias": torch.ones(9)})),
        "cannot read .*size mismatch",
    ),
    "NaN": (
        tensors_of(lambda found: found["classifier.bias"].fill_(float("nan"))),
        "'classifier.bias' has numbers that are not finite",
    ),
}


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("method", ["full", "linear", "bitfit", "ssf"])
def test_the_weights_of_a_run_are_read_whole_or_refused(method, kind, every_kind, tmp_path):
    model = inject(every_kind, method, "classifier").model
    settings = replace(SETTINGS, method=method)
    save_trained(model, settings, tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    damage, message = PLAIN[kind]
    load_trained(type(every_kind)(), settings, tmp_path)
    damage(file)
    with pytest.raises(FiltersubError, match=message) as raised:
        load_trained(type(every_kind)(), settings, tmp_path)
    assert "\n" not in str(raised.value)


BY_PEFT = [name for name, method in METHODS.items() if method.by_peft and name != "filter-subspace"]


@pytest.mark.parametrize("method", BY_PEFT)
def test_each_tensor_of_another_methods_adapter_is_looked_at(method, every_kind, tmp_path):
    """peft fills what a file lacks with fresh numbers, and says so in a warning at most."""
    model = inject(every_kind, method, "classifier", options=MethodOptions(rank=2)).model
    settings = replace(SETTINGS, method=method)
    save_trained(model, settings, tmp_path / "whole")
    load_trained(type(every_kind)(), settings, tmp_path / "whole")
    whole = load_file(tmp_path / "whole" / ADAPTER_FOLDER / WEIGHTS)
    changes = {
        "gone": (lambda found, key: found.pop(key), "lacks '|cannot read "),
        "NaN": (with_nan, "numbers that are not finite"),
    }
    for key in (*list(whole)[:3], *list(whole)[-3:]):
        for change, message in changes.values():
            folder = shutil.copytree(tmp_path / "whole", tmp_path / "damaged", dirs_exist_ok=True)
            edited(change)(folder / ADAPTER_FOLDER, key)
            with pytest.raises(FiltersubError, match=message) as raised:
                load_trained(type(every_kind)(), settings, folder)
            assert key in str(raised.value)


def test_an_adapter_that_names_itself_in_each_tensor_is_read(every_kind, tmp_path):
    """peft reads ``lora_A.default.weight`` as well as ``lora_A.weight``."""
    model = inject(every_kind, "lora", "classifier", options=MethodOptions(rank=2)).model
    settings = replace(SETTINGS, method="lora")
    save_trained(model, settings, tmp_path)
    file = tmp_path / ADAPTER_FOLDER / WEIGHTS
    base = type(every_kind)()
    wanted = load_trained(copy.deepcopy(base), settings, tmp_path).state_dict()
    named = {key.replace(".lora_A.", ".lora_A.default."): tensor for key, tensor in load_file(file).items()}
    assert named.keys() != load_file(file).keys()
    save_file(named, file)
    found = load_trained(base, settings, tmp_path).state_dict()
    assert all(torch.equal(found[key], tensor) for key, tensor in wanted.items())


STATISTICS = {
    "NaN": (
        lambda found: found["norm.running_mean"].fill_(float("nan")),
        "'norm.running_mean' has numbers that are not",
    ),
    "gone": (lambda found: found.pop("norm.running_mean"), "lacks 'norm.running_mean'"),
    "of another model": (lambda found: found.update(other=torch.ones(2)), "has 'other', which the model does not"),
    "another shape": (lambda found: found.update({"norm.running_mean": torch.ones(9)}), "cannot read .*size mismatch"),
}


@pytest.mark.parametrize("kind", STATISTICS)
def test_statistics_beside_an_adapter_are_looked_at(kind, every_kind, tmp_path):
    """Older runs have them in a file of their own."""
    model = inject(every_kind, "lora", "classifier", options=MethodOptions(rank=2)).model
    settings = replace(SETTINGS, method="lora")
    save_trained(model, replace(settings, batch_norm="frozen"), tmp_path)  # an adapter without statistics, as of then
    base = type(every_kind)()
    kept = {k: v.contiguous() for k, v in base.state_dict().items() if "running" in k or "num_batches" in k}
    save_file(kept, tmp_path / STATISTICS_FILE)
    load_trained(type(every_kind)(), settings, tmp_path)
    damage, message = STATISTICS[kind]
    damage(kept)
    save_file(kept, tmp_path / STATISTICS_FILE)
    with pytest.raises(FiltersubError, match=message):
        load_trained(type(every_kind)(), settings, tmp_path)


class HeadWithNorm(nn.Module):
    """A head that is a container with batch norm in it, which peft saves whole, in a wrapper."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.xnorm = nn.Conv2d(8, 8, 3)  # ends like the norm, so peft would take it for one
        self.classifier = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(32), nn.Linear(32, 3))

    def forward(self, x):
        return self.classifier(self.xnorm(self.norm(self.stem(x))))


def test_statistics_beside_an_adapter_whose_head_has_its_own(tmp_path):
    base = HeadWithNorm()
    model = inject(copy.deepcopy(base), "lora", "classifier", options=MethodOptions(rank=2)).model
    images = torch.randn(4, 3, 6, 6)
    model.train()(images)  # moves all statistics
    settings = replace(SETTINGS, method="lora")
    save_trained(model, settings, tmp_path)
    kept = load_file(tmp_path / STATISTICS_FILE)
    assert set(kept) == {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
    wanted = model.eval()(images)
    head = model.get_base_model().classifier
    older = kept | {f"classifier.{name}": tensor for name, tensor in head.state_dict().items() if "running" in name}
    assert len(older) > len(kept)
    for content in (kept, older):
        save_file({name: tensor.clone() for name, tensor in content.items()}, tmp_path / STATISTICS_FILE)
        found = load_trained(copy.deepcopy(base), settings, tmp_path).eval()
        torch.testing.assert_close(found(images), wanted, atol=1e-5, rtol=0)


def test_atoms_saved_before_there_were_fingerprints_load(every_kind, tmp_path):
    recipe, settings = DecompositionConfig(atoms=3, solver="pca"), replace(SETTINGS, method="filter-subspace")
    base = copy.deepcopy(every_kind)
    save_trained(inject(every_kind, "filter-subspace", "classifier", recipe=recipe).model, settings, tmp_path)
    wanted = load_trained(copy.deepcopy(base), settings, tmp_path).state_dict()
    file = tmp_path / ADAPTER_FOLDER / WEIGHTS
    save_file({name: each for name, each in load_file(file).items() if "fingerprint" not in name}, file)
    found = load_trained(base, settings, tmp_path).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


def with_nan(tensors, key):
    tensors[key] = torch.full_like(tensors[key], float("nan"), dtype=torch.float32)
