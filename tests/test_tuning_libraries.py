"""Models of timm, torchvision, transformers and diffusers, with random weights, and their presets."""

import copy

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn

from filtersub.decomposition import DecompositionConfig, decompose_model
from filtersub.errors import FiltersubError
from filtersub.models import head_name, load_model
from filtersub.tuning import FilterSubspaceConfig, FilterSubspaceLayer

SETTING_4 = {"atoms": 3, "block": 4, "expansion": 2, "solver": "pca"}


class Logits(nn.Module):
    """A transformers classifier as a plain function of images."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model(pixel_values=images).logits


def transformers_resnet():
    from transformers import ResNetConfig, ResNetForImageClassification

    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 2]}
    return Logits(ResNetForImageClassification(ResNetConfig(**sizes, layer_type="bottleneck", num_labels=3)))


def transformers_convnext():
    from transformers import ConvNextConfig, ConvNextForImageClassification

    sizes = {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 2]}
    return Logits(ConvNextForImageClassification(ConvNextConfig(**sizes, num_labels=3)))


MODELS = {
    "timm:resnet18": lambda: load_model("timm:resnet18", pretrained=False, num_classes=3),
    "timm:convnext_atto": lambda: load_model("timm:convnext_atto", pretrained=False, num_classes=3),
    "timm:regnety_002": lambda: load_model("timm:regnety_002", pretrained=False, num_classes=3),
    "torchvision:resnet18": lambda: load_model("torchvision:resnet18", pretrained=False, num_classes=3),
    "transformers ResNet": transformers_resnet,
    "transformers ConvNeXt": transformers_convnext,
}


def moved(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(0.01 * torch.randn(p.shape, generator=generator).to(p))
    return model


def names(model):
    return [module.name for module in model.modules() if isinstance(module, FilterSubspaceLayer)]


@pytest.mark.parametrize("name", MODELS)
def test_starts_unchanged_trains_saves_loads_and_merges(name, tmp_path):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    images = torch.randn(2, 3, 64, 64)
    head = head_name(model)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        before = model(images)
        tuned = get_peft_model(model, FilterSubspaceConfig(modules_to_save=[head] if head else None, **SETTING_4))
        assert torch.equal(tuned.eval()(images), before)
    moved(tuned)(images).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in tuned.parameters() if p.requires_grad)
    tuned.save_pretrained(tmp_path)
    fresh = MODELS[name]()
    fresh.load_state_dict(state)
    loaded = PeftModel.from_pretrained(fresh, tmp_path).eval()
    with torch.no_grad():
        after = tuned(images)
        assert not torch.equal(after, before)
        assert torch.equal(loaded(images), after)
        torch.testing.assert_close(tuned.merge_and_unload()(images), after, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_stage_four_is_the_last(name):
    model = MODELS[name]().to("meta")
    config = FilterSubspaceConfig(target_modules="stage4", **SETTING_4)
    everything = names(
        get_peft_model(MODELS[name]().to("meta"), FilterSubspaceConfig(target_modules=".*", **SETTING_4))
    )
    chosen = names(get_peft_model(model, config))
    assert 0 < len(chosen) < len(everything)
    first = everything.index(chosen[0])
    assert [n for n in everything[first:] if n in chosen] == chosen
    head = [n for n in everything[first:] if n not in chosen]
    assert len(head) <= 1  # after stage 4 comes the classifier alone


def small_unet():
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=8,
        norm_num_groups=4,
        attention_head_dim=4,
    ).eval()


def test_the_residual_blocks_of_a_unet(tmp_path):
    pytest.importorskip("diffusers", reason="diffusers is an extra: pip install 'filtersub[diffusion]'")
    unet = small_unet()
    inputs = (torch.randn(1, 4, 8, 8), torch.tensor([3]), torch.randn(1, 2, 8))
    state = {key: value.clone() for key, value in unet.state_dict().items()}
    with torch.no_grad():
        before = unet(*inputs).sample
        tuned = get_peft_model(unet, FilterSubspaceConfig(target_modules="unet-resnets", atoms=3, solver="pca"))
        assert names(tuned)
        assert all(".resnets." in f".{name}" for name in names(tuned))
        assert any("mid_block.resnets" in name for name in names(tuned))
        assert torch.equal(tuned(*inputs).sample, before)
    tuned.enable_gradient_checkpointing()
    tuned.train()
    moved(tuned)(*inputs).sample.square().sum().backward()
    assert all(p.grad is not None for p in tuned.parameters() if p.requires_grad)
    tuned.eval().save_pretrained(tmp_path)
    fresh = small_unet()
    fresh.load_state_dict(state)
    loaded = PeftModel.from_pretrained(fresh, tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(loaded(*inputs).sample, tuned(*inputs).sample)


def test_diffusers_own_adapter_door():
    """``unet.add_adapter(config)`` of diffusers, without a PeftModel around."""
    pytest.importorskip("diffusers", reason="diffusers is an extra: pip install 'filtersub[diffusion]'")
    unet = small_unet()
    inputs = (torch.randn(1, 4, 8, 8), torch.tensor([3]), torch.randn(1, 2, 8))
    with torch.no_grad():
        before = unet(*inputs).sample
        unet.add_adapter(FilterSubspaceConfig(target_modules="unet-resnets", atoms=3, solver="pca"), "mine")
        assert names(unet)
        assert torch.equal(unet(*inputs).sample, before)
        moved(unet)
        assert not torch.equal(unet(*inputs).sample, before)
        unet.disable_adapters()
        assert torch.equal(unet(*inputs).sample, before)


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 6, 3), nn.ConvTranspose1d(4, 6, 3), nn.Conv3d(2, 3, 3)], ids=repr)
def test_a_model_made_in_inference_mode_is_refused_and_its_copy_is_not(layer):
    """torch lets no tensor of that mode be trained or changed outside it, and says so at the first backward pass."""
    with torch.inference_mode():
        model = nn.Sequential(copy.deepcopy(layer))
    found = decompose_model(model, DecompositionConfig(atoms=2, solver="pca"))
    for refused in (found.rebuild_, lambda it: get_peft_model(it, FilterSubspaceConfig(atoms=2, solver="pca"))):
        with pytest.raises(FiltersubError, match=r"'0.weight' was made in torch.inference_mode\(\)"):
            refused(model)
        refused(copy.deepcopy(model))
    with torch.inference_mode():
        get_peft_model(model, FilterSubspaceConfig(atoms=2, solver="pca"))


@pytest.mark.parametrize("place", [1, 2], ids=["batch norm", "head"])
def test_no_part_of_a_model_that_is_tuned_is_made_in_inference_mode(place):
    layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 2)]
    with torch.inference_mode():
        layers[place] = copy.deepcopy(layers[place])
    with pytest.raises(FiltersubError, match=rf"'{place}.weight' was made in torch.inference_mode"):
        get_peft_model(nn.Sequential(*layers), FilterSubspaceConfig(atoms=2, solver="pca", target_modules=["0"]))
