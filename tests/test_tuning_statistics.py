"""Every adapter has running statistics of its own: what was tuned alone is what is swapped in on a shared base."""

import copy

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors import safe_open
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
