"""Every adapter has running statistics of its own: what was tuned alone is what is swapped in on a shared base."""

import copy

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors import safe_open
from torch import nn
from torch.nn.functional import cross_entropy

from filtersub.models import load_model
from filtersub.tuning import FilterSubspaceConfig

CONFIG = {"solver": "pca", "atoms": 4, "modules_to_save": ["fc"]}


@pytest.fixture(scope="module")
def base():
    torch.manual_seed(0)
    return load_model("resnet18", pretrained=False, num_classes=4).eval()


def task(seed, shift):
    """Images of another mean and spread in each task, so that their statistics differ."""
    draw = torch.Generator().manual_seed(seed)
    return shift + (1 + shift) * torch.randn(8, 3, 32, 32, generator=draw), torch.randint(4, (8,), generator=draw)


def tuned(base, images, labels, **options):
    model = get_peft_model(copy.deepcopy(base), FilterSubspaceConfig(**CONFIG, **options)).train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-3)
    for _ in range(3):
        cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.fixture(scope="module")
def two(base, tmp_path_factory):
    """Folder of two adapters, and by name the images of its task and what its own model says of them."""
    folder, said = tmp_path_factory.mktemp("adapters"), {}
    for number, name in enumerate(("first", "second")):
        images, labels = task(number, 2.0 * number)
        model = tuned(base, images, labels)
        model.save_pretrained(folder / name)
        with torch.no_grad():
            said[name] = images, model(images)
    return folder, said


def test_two_tasks_on_one_base_give_what_each_gave_alone(base, two):
    folder, said = two
    with torch.no_grad():
        plain = {name: base(images) for name, (images, _) in said.items()}
        model = PeftModel.from_pretrained(copy.deepcopy(base), folder / "first", adapter_name="first").eval()
        model.load_adapter(folder / "second", adapter_name="second")
        for name in ("first", "second", "first"):
            images, alone = said[name]
            model.set_adapter(name)
            assert torch.equal(model(images), alone)
            with model.disable_adapter():
                assert torch.equal(model(images), plain[name])
            assert torch.equal(model(images), alone)
        model.delete_adapter("first")
        images, alone = said["second"]
        model.set_adapter("second")
        assert torch.equal(model(images), alone)
        unloaded = model.unload()  # peft leaves the tuned head in place
        assert torch.equal(unloaded.forward_features(images), base.forward_features(images))


def test_an_inactive_adapter_is_saved_with_its_own_statistics(base, two, tmp_path):
    folder, said = two
    model = PeftModel.from_pretrained(copy.deepcopy(base), folder / "first", adapter_name="first").eval()
    model.load_adapter(folder / "second", adapter_name="second")
    model.save_pretrained(tmp_path)  # while the first is the active one
    for name, (images, alone) in said.items():
        again = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / name).eval()
        with torch.no_grad():
            assert torch.equal(again(images), alone)


def test_merged_weights_keep_the_statistics_of_their_adapter(base, two):
    folder, said = two
    images, alone = said["second"]
    merged = PeftModel.from_pretrained(copy.deepcopy(base), folder / "second").merge_and_unload().eval()
    with torch.no_grad():
        torch.testing.assert_close(merged(images), alone, atol=1e-4, rtol=1e-4)


def test_statistics_that_did_not_move_take_no_room(base, tmp_path):
    images, labels = task(0, 0.0)
    still = get_peft_model(copy.deepcopy(base), FilterSubspaceConfig(**CONFIG))
    still.save_pretrained(tmp_path / "still")
    tuned(base, images, labels).save_pretrained(tmp_path / "moved")
    tuned(base, images, labels, save_batch_norm=False).save_pretrained(tmp_path / "shared")
    held = {}
    for name in ("still", "moved", "shared"):
        with safe_open(tmp_path / name / "adapter_model.safetensors", "pt") as opened:
            held[name] = sum("running_" in key for key in opened.keys())  # noqa: SIM118
    assert held["still"] == held["shared"] == 0
    assert held["moved"] == 2 * 20  # of every batch norm of ResNet18


def test_without_statistics_of_its_own_an_adapter_has_the_base_models(base):
    images, labels = task(0, 1.0)
    model = tuned(base, images, labels, save_batch_norm=False)
    moved = model.base_model.model.bn1.running_mean.clone()
    assert not torch.equal(moved, base.bn1.running_mean)
    model.add_adapter("own", FilterSubspaceConfig(**CONFIG))
    model.set_adapter("own")
    model.train()(images)
    assert not torch.equal(model.base_model.model.bn1.running_mean, moved)
    model.set_adapter("default")
    assert torch.equal(model.base_model.model.bn1.running_mean, moved)


@pytest.mark.parametrize("shown_here", ["one", "two", None])
@pytest.mark.parametrize("shown_there", ["one", "two", None])
@pytest.mark.parametrize("norm", [nn.BatchNorm2d, lambda n: nn.BatchNorm2d(n, momentum=None), nn.SyncBatchNorm])
def test_state_dicts_keep_adapters_apart_whichever_is_active(norm, shown_there, shown_here):
    """Every adapter and the base model give the same after state_dict and load_state_dict as before."""

    def build():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 8, 3), norm(8), nn.ReLU(), nn.Conv2d(8, 8, 3), norm(8))
        model = get_peft_model(net, FilterSubspaceConfig(atoms=3, solver="pca"), adapter_name="one")
        model.add_adapter("two", FilterSubspaceConfig(atoms=3, solver="pca"))
        return model.eval()

    def said(model, adapter):
        if adapter is None:
            with model.disable_adapter():
                return model(x)
        model.set_adapter(adapter)
        return model(x)

    def active(model, adapter):
        model.base_model.enable_adapter_layers()
        if adapter is None:
            model.base_model.disable_adapter_layers()
        else:
            model.set_adapter(adapter)

    trained, again = build(), build()
    x = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        for number, adapter in enumerate(("one", "two"), 1):
            trained.set_adapter(adapter)
            for name, parameter in trained.named_parameters():
                if f"filtersub_atoms.{adapter}" in name:
                    parameter.fill_(0.1 * number)
            for module in trained.modules():  # stands for a forward pass in training
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.running_mean.add_(number)
                    module.running_var.mul_(1 + number)
        wanted = {adapter: said(trained, adapter) for adapter in ("one", "two", None)}
        active(trained, shown_there)
        active(again, shown_here)
        again.load_state_dict(copy.deepcopy(trained.state_dict()))
        active(again, "one")
        for adapter, output in wanted.items():
            assert torch.equal(said(again, adapter), output)


def test_state_dicts_of_before_still_load(base):
    """They hold the statistics in place alone."""
    model = get_peft_model(copy.deepcopy(base), FilterSubspaceConfig(**CONFIG))
    old = {name: value + 1 for name, value in model.state_dict().items() if ".statistics." not in name}
    model.load_state_dict(old)
    for name, value in old.items():
        assert torch.equal(model.state_dict()[name], value)


MOVED_BY_TRAINING = {
    "batch norm": lambda: [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)],
    "instance norm": lambda: [nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8, track_running_stats=True)],
    "spectral norm": lambda: [nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 8, 3))],
    "spectral norm, older": lambda: [nn.utils.spectral_norm(nn.Conv2d(3, 8, 3))],
    "spectral norm of a linear layer": lambda: [
        nn.Conv2d(3, 8, 3),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(2),
        nn.utils.parametrizations.spectral_norm(nn.Linear(16, 16)),
        nn.Unflatten(2, (4, 4)),
    ],
}


@pytest.mark.parametrize("kind", MOVED_BY_TRAINING)
def test_what_training_moves_beside_the_atoms_is_saved_with_them(kind, tmp_path):
    def build():
        torch.manual_seed(0)
        tail = [nn.Tanh(), nn.Conv2d(8, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return nn.Sequential(*MOVED_BY_TRAINING[kind](), *tail, nn.Linear(8, 4))

    images, labels = task(0, 1.0)
    before, base = build().eval()(images), build()
    head = str(len(base) - 1)
    model = get_peft_model(base, FilterSubspaceConfig(**{**CONFIG, "modules_to_save": [head]})).train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
    for _ in range(3):
        cross_entropy(model(images), labels).backward()
        optimizer.step()
    with torch.no_grad():
        wanted = model.eval()(images)
        model.save_pretrained(tmp_path)
        again = PeftModel.from_pretrained(build(), tmp_path).eval()
        assert torch.equal(again(images), wanted)
        with again.disable_adapter():
            assert torch.equal(again(images), before)
        assert torch.equal(again(images), wanted)
