"""The architectures of the zoo: each by family, with random weights and inputs, as small as its library offers.

An entry builds its network from a seed, so that a second process builds the same one without a file.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

_ALIKE = 1_000  # times the outputs of training that those of evaluation may be
Inputs = Callable[[], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Entry:
    """One architecture.

    Attributes
    ----------
    name : library:name; family : the heading it stands under
    build : makes the network
    inputs : positional inputs of its forward pass
    fuse : what its library calls to fold branches or normalisation; takes and returns the network
    rate : of Adam; lower where outputs are so small that five usual steps go past their goal
    """

    name: str
    family: str
    build: Callable[[], nn.Module]
    inputs: Inputs
    fuse: Callable[[nn.Module], nn.Module] | None = None
    rate: float = 1e-4

    def make(self) -> tuple[nn.Module, tuple[Tensor, ...]]:
        """The network in evaluation mode, and its inputs, which its batch norms have seen.

        Fails where the statistics are of so few values that outputs of evaluation grow from layer to layer: two 1 x 1
        maps can be nearly equal in a channel, and dividing by their spread then enlarges whatever differs from them.
        """
        torch.manual_seed(0)
        model, inputs = self.build(), self.inputs()
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
        momenta = [norm.momentum for norm in norms]
        with torch.no_grad():
            for parameter in model.parameters():  # gains and scales that start at zero would hide what is before them
                if not bool(parameter.any()) and parameter.ndim:
                    parameter.normal_(0, 0.2)
            for norm in norms:
                norm.momentum = 1.0
            if norms:
                trained = _largest(model.train()(*inputs))
                judged = _largest(model.eval()(*inputs))
                assert judged < _ALIKE * trained, f"{self.name}: outputs up to {judged:.1e}, {trained:.1e} in training"
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        return model.eval(), inputs


def _largest(outputs: Any) -> float:
    tensors = [each for each in tree_leaves(outputs) if isinstance(each, Tensor) and each.is_floating_point()]
    return max(float(each.abs().max()) for each in tensors)


class Called(nn.Module):
    """A model with keyword inputs or outputs in a dataclass, as a plain function of tensors."""

    def __init__(self, model: nn.Module, names: tuple[str, ...], output: str | None, fixed: dict[str, Any]) -> None:
        super().__init__()
        self.model, self.names, self.output, self.fixed = model, names, output, fixed

    def forward(self, *inputs: Tensor) -> Tensor:
        found = self.model(**dict(zip(self.names, inputs, strict=True)), **self.fixed)
        return found if self.output is None else getattr(found, self.output)


def images(size: int = 64, n: int = 2) -> Inputs:
    return lambda: (torch.randn(n, 3, size, size),)


def _reparameterised(model: nn.Module) -> nn.Module:
    from timm.utils import reparameterize_model

    return reparameterize_model(model)


def _timm(
    family: str, *names: str, size: int = 64, fuse: Any = None, rate: float = 1e-4, **options: Any
) -> list[Entry]:
    def build(name: str) -> Callable[[], nn.Module]:
        return lambda: importlib.import_module("timm").create_model(name, num_classes=5, **options)

    return [Entry(f"timm:{name}", family, build(name), images(size), fuse, rate) for name in names]


def _torchvision(family: str, *names: str, size: int = 64, inputs: Inputs | None = None, **options: Any) -> list[Entry]:
    def build(name: str) -> Callable[[], nn.Module]:
        return lambda: importlib.import_module("torchvision.models").get_model(name, weights=None, **options)

    return [Entry(f"torchvision:{name}", family, build(name), inputs or images(size)) for name in names]


def _transformers(
    family: str,
    kind: str,
    inputs: Inputs,
    names: tuple[str, ...] = ("pixel_values",),
    output: str | None = "logits",
    fuse: Any = None,
    config: str | None = None,
    **settings: Any,
) -> Entry:
    def build() -> nn.Module:
        library = importlib.import_module("transformers")
        head = {"num_labels": 5} if kind.endswith("ImageClassification") else {}
        made = (
            getattr(library, config)(**settings) if config else getattr(library, kind).config_class(**head, **settings)
        )
        return Called(getattr(library, kind)(made), names, output, {})

    return Entry(f"transformers:{kind}", family, build, inputs, fuse)


def _diffusers(
    family: str, kind: str, inputs: Inputs, names: tuple[str, ...], fuse: Any = None, **settings: Any
) -> Entry:
    def build() -> nn.Module:
        model = getattr(importlib.import_module("diffusers"), kind)(**settings)
        return Called(model, names, None, {"return_dict": False})

    return Entry(f"diffusers:{kind}", family, build, inputs, fuse)


def _plain(name: str, family: str, build: Callable[[], nn.Module], *shape: int, fuse: Any = None) -> Entry:
    return Entry(f"torch:{name}", family, build, lambda: (torch.randn(*shape),), fuse)


def _inner(method: str) -> Callable[[nn.Module], nn.Module]:
    """Calls a method of the wrapped model that changes it in place."""

    def fuse(model: nn.Module) -> nn.Module:
        inner = next(m for m in model.modules() if isinstance(m, Called)).model
        getattr(inner, method)()
        return model

    return fuse


def _padded(mode: str) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, padding_mode=mode),
        nn.ReLU(),
        nn.Conv2d(8, 8, 5, padding=2, padding_mode=mode, groups=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


def _decoder() -> nn.Module:
    up = [
        nn.ConvTranspose2d(3, 8, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 4, 3, groups=2, dilation=2),
    ]
    return nn.Sequential(*up, nn.Tanh(), nn.ConvTranspose2d(4, 3, 3, stride=2, output_padding=1))


def _volume() -> nn.Module:
    down = [nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 8, 3, stride=2, groups=4)]
    return nn.Sequential(*down, nn.ReLU(), nn.ConvTranspose3d(8, 1, 2, stride=2))


def _discriminator() -> nn.Module:
    """As of SNGAN: spectral norm around some layers, the last ones plain."""
    normal = torch.nn.utils.parametrizations.spectral_norm
    body = [normal(nn.Conv2d(3, 8, 3, 2, 1)), nn.LeakyReLU(0.1), normal(nn.Conv2d(8, 16, 4, 2, 1)), nn.LeakyReLU(0.1)]
    return nn.Sequential(
        *body, nn.Conv2d(16, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 1)
    )


def _wavenet() -> nn.Module:
    normal = torch.nn.utils.parametrizations.weight_norm
    layers = [normal(nn.Conv1d(1 if not k else 8, 8, 2, dilation=2**k)) for k in range(3)]
    return nn.Sequential(*(each for layer in layers for each in (layer, nn.Tanh())), nn.Conv1d(8, 1, 3))


class _Reused(nn.Module):
    """One module run three times, and two layers of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.again = nn.Conv2d(8, 8, 3, padding=1)
        self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.second.weight = self.first.weight
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(3):
            x = torch.relu(self.again(x))
        return self.head(self.second(torch.relu(self.first(x))).mean((2, 3)))


_WAVE = lambda n=2, length=1600: lambda: (torch.randn(n, length),)  # noqa: E731
_AUDIO = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
_SPEECH = {**_AUDIO, "conv_dim": (16, 16, 16), "conv_kernel": (10, 3, 2), "conv_stride": (5, 2, 2),
           "num_feat_extract_layers": 3, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
           "layerdrop": 0.0, "mask_time_prob": 0.0, "apply_spec_augment": False}  # fmt: skip
_SMALL = {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1]}
_TEXT = lambda high, length=12, n=2: lambda: (torch.randint(0, high, (n, length)),)  # noqa: E731
_BLOCKS = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
_LATENT = lambda *shape: lambda: (torch.randn(*shape), torch.tensor([3]), torch.randn(shape[0], 3, 8))  # noqa: E731
_CONDITION = ("sample", "timestep", "encoder_hidden_states")
_HIFI = {"upsample_initial_channel": 16, "upsample_rates": [4, 4], "upsample_kernel_sizes": [8, 8], "model_in_dim": 8,
         "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3]]}  # fmt: skip

ZOO: list[Entry] = [
    *_timm("plain", "test_resnet", "resnet18", "densenet121", "dla46_c", "ese_vovnet19b_slim_dw", "res2net50_26w_4s"),
    *_timm("plain", "darknet17", "cs3darknet_focus_s", "hgnetv2_b0", "rdnet_tiny"),
    *_timm("grouped and depthwise", "resnext26ts", "regnetx_002", "regnety_002", "mobilenetv2_035", "lcnet_035"),
    *_timm("grouped and depthwise", "mixnet_s", "ghostnet_050", "rexnet_100", "dpn48b", "mobilenetv4_conv_small_035"),
    *_timm("grouped and depthwise", "convnext_atto", "convnextv2_atto", "inception_next_atto", "starnet_s050"),
    *_timm("standardised weights", "test_nfnet", "nf_resnet26", "nf_regnet_b0", "resnetv2_50x1_bit"),
    *_timm("standardised weights", "vit_tiny_r_s16_p8_224", img_size=64),
    *_timm(
        "re-parameterised",
        "repvgg_a0",
        "mobileone_s0",
        "fastvit_t8",
        "repghostnet_050",
        "repvit_m0_9",
        fuse=_reparameterised,
    ),
    *_timm("re-parameterised", "shvit_s1", size=128, fuse=_reparameterised),
    *_timm("re-parameterised", "levit_conv_128s", "efficientvit_m0", size=224, fuse=_reparameterised),
    *_timm("blur pooling", "resnetblur18", "efficientnet_blur_b0", "tresnet_m", "resnetaa34d"),
    *_timm("same padding", "tf_efficientnet_lite0", "tf_mobilenetv3_small_minimal_100", "tf_mixnet_s"),
    *_timm("weights made per image", "tf_efficientnet_cc_b0_4e", "skresnet18"),
    *_timm("attention beside convolutions", "bat_resnext26ts", "lambda_resnet26t", size=256),
    *_timm(
        "attention beside convolutions",
        "edgenext_xx_small",
        "mobilevit_xxs",
        "mobilevitv2_050",
        "efficientformer_l1",
        size=224,
    ),
    *_timm("attention beside convolutions", "efficientvit_b0", "pvt_v2_b0", "poolformer_s12", "swiftformer_xs"),
    *_timm("attention beside convolutions", "test_vit", "xcit_nano_12_p16_224", size=160),
    *_timm("attention beside convolutions", "mambaout_femto", size=160, rate=3e-5),
    *_torchvision("plain", "resnet18", "squeezenet1_0", "shufflenet_v2_x0_5", num_classes=5),
    *_torchvision("grouped and depthwise", "mobilenet_v3_small", "mnasnet0_5", "efficientnet_b0", num_classes=5),
    *_torchvision("several outputs", "googlenet", size=96, num_classes=5, init_weights=False),
    *_torchvision(
        "dilated, dense prediction",
        "deeplabv3_mobilenet_v3_large",
        "lraspp_mobilenet_v3_large",
        num_classes=5,
        weights_backbone=None,
    ),
    *_torchvision("three dimensions", "mc3_18", num_classes=5, inputs=lambda: (torch.randn(1, 3, 4, 32, 32),)),
    *_torchvision(
        "dilated, dense prediction",
        "raft_small",
        inputs=lambda: (torch.randn(1, 3, 128, 128), torch.randn(1, 3, 128, 128)),
    ),
    _plain("circular padding", "padding modes", _padded("circular"), 2, 3, 12, 12),
    _plain("reflected padding", "padding modes", _padded("reflect"), 2, 3, 12, 12),
    _plain("replicated padding", "padding modes", _padded("replicate"), 2, 3, 12, 12),
    _plain("transposed", "transposed", _decoder, 2, 3, 6, 6),
    _plain("volumes", "three dimensions", _volume, 2, 1, 7, 7, 7),
    _plain("spectral norm", "weight and spectral norm", _discriminator, 2, 3, 24, 24),
    _plain("weight norm", "weight and spectral norm", _wavenet, 2, 1, 40),
    _plain("tied and reused", "tied and reused", _Reused, 2, 3, 10, 10),
    _transformers("plain", "ResNetForImageClassification", images(32), embedding_size=8, **_SMALL),
    _transformers("grouped and depthwise", "ConvNextForImageClassification", images(), **_SMALL),
    _transformers(
        "grouped and depthwise",
        "MobileNetV1ForImageClassification",
        images(),
        depth_multiplier=0.25,
        classifier_dropout_prob=0.0,
        initializer_range=0.2,
    ),
    _transformers(
        "grouped and depthwise",
        "EfficientNetForImageClassification",
        images(),
        width_coefficient=0.25,
        depth_coefficient=0.25,
        hidden_dim=320,
        initializer_range=0.2,
    ),
    _transformers(
        "standardised weights",
        "BitForImageClassification",
        images(),
        embedding_size=32,
        hidden_sizes=[128, 128, 128, 128],
        depths=[1, 1, 1, 1],
    ),
    _transformers(
        "attention beside convolutions",
        "SegformerForImageClassification",
        images(),
        depths=[1, 1, 1, 1],
        hidden_sizes=[16, 16, 32, 32],
    ),
    _transformers(
        "weight and spectral norm", "Wav2Vec2Model", _WAVE(), ("input_values",), "last_hidden_state", **_SPEECH
    ),
    _transformers(
        "weight and spectral norm",
        "SEWModel",
        _WAVE(),
        ("input_values",),
        "last_hidden_state",
        **{**_SPEECH, "squeeze_factor": 2},
    ),
    _transformers(
        "weight and spectral norm",
        "SpeechT5HifiGan",
        lambda: (torch.randn(1, 6, 8),),
        ("spectrogram",),
        None,
        config="SpeechT5HifiGanConfig",
        **_HIFI,
    ),
    _transformers(
        "weight and spectral norm",
        "EncodecModel",
        lambda: (torch.randn(1, 1, 640),),
        ("input_values",),
        "audio_values",
        hidden_size=16,
        num_filters=4,
        num_residual_layers=1,
        upsampling_ratios=[4, 2],
        codebook_dim=16,
        num_lstm_layers=1,
        target_bandwidths=[100.0],
    ),
    _transformers(
        "one dimension",
        "WhisperModel",
        lambda: (torch.randn(1, 8, 40), torch.randint(0, 50, (1, 4))),
        ("input_features", "decoder_input_ids"),
        "last_hidden_state",
        num_mel_bins=8,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_source_positions=20,
        vocab_size=51,
        init_std=0.3,
        pad_token_id=50,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    ),
    _transformers(
        "one dimension",
        "MambaForCausalLM",
        _TEXT(50),
        ("input_ids",),
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=1,
        state_size=4,
    ),
    _transformers(
        "tied and reused",
        "GPT2LMHeadModel",
        _TEXT(50),
        ("input_ids",),
        vocab_size=50,
        n_embd=16,
        n_layer=1,
        n_head=2,
        n_positions=16,
        use_cache=False,
    ),
    _diffusers(
        "UNets and autoencoders",
        "UNet2DModel",
        lambda: (torch.randn(1, 3, 16, 16), torch.tensor([3])),
        ("sample", "timestep"),
        **_BLOCKS,
        sample_size=16,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    ),
    _diffusers(
        "UNets and autoencoders",
        "UNet2DConditionModel",
        _LATENT(1, 4, 8, 8),
        _CONDITION,
        fuse=_inner("fuse_qkv_projections"),
        **_BLOCKS,
        sample_size=8,
        attention_head_dim=4,
        cross_attention_dim=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ),
    _diffusers(
        "UNets and autoencoders",
        "UNet3DConditionModel",
        _LATENT(1, 4, 2, 8, 8),
        _CONDITION,
        **{**_BLOCKS, "block_out_channels": (32, 32), "norm_num_groups": 32},
        sample_size=8,
        attention_head_dim=8,
        cross_attention_dim=8,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
    ),
    _diffusers(
        "UNets and autoencoders",
        "UNet1DModel",
        lambda: (torch.randn(1, 2, 64), torch.tensor([3])),
        ("sample", "timestep"),
        block_out_channels=(32, 32),
        extra_in_channels=64,
        sample_size=64,
        down_block_types=("DownBlock1DNoSkip", "AttnDownBlock1D"),
        up_block_types=("AttnUpBlock1D", "UpBlock1DNoSkip"),
    ),
    _diffusers(
        "UNets and autoencoders",
        "AutoencoderKL",
        images(16, 1),
        ("sample",),
        **_BLOCKS,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    ),
    _diffusers(
        "UNets and autoencoders",
        "VQModel",
        images(16, 1),
        ("sample",),
        **_BLOCKS,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    ),
    _diffusers(
        "UNets and autoencoders",
        "AutoencoderTiny",
        images(16, 1),
        ("sample",),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ),
    _diffusers(
        "weight and spectral norm",
        "AutoencoderOobleck",
        lambda: (torch.randn(1, 2, 64),),
        ("sample",),
        encoder_hidden_size=8,
        downsampling_ratios=[2, 4],
        channel_multiples=[1, 2],
        decoder_channels=8,
        decoder_input_channels=4,
    ),
    _diffusers(
        "three dimensions",
        "AutoencoderKLCogVideoX",
        lambda: (torch.randn(1, 3, 1, 16, 16),),
        ("sample",),
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        temporal_compression_ratio=2,
        down_block_types=("CogVideoXDownBlock3D",) * 2,
        up_block_types=("CogVideoXUpBlock3D",) * 2,
    ),
]
