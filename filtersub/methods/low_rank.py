"""Low-rank updates that peft does not have: LoRA in loralib's form, and LyCORIS' with a core for the spatial sides."""

import math
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ..computed_weights import parametrize_
from ..errors import FiltersubError
from ..kernels import KernelLayout, layout_of
from .options import MethodOptions

#: method -> LyCORIS's algorithm and the names of its factors
_ALGORITHMS = {
    "tucker-lora": ("locon", ("down", "up", "mid")),
    "tucker-loha": ("loha", ("w1d", "w1u", "w2d", "w2u", "t1", "t2")),
    "tucker-lokr": ("lokr", ("w1", "w1a", "w1b", "w2", "w2a", "w2b", "t2")),
}
TUCKER_METHODS = tuple(_ALGORITHMS)


class LoralibUpdate(nn.Module):
    """``weight -> weight + scale * view(B A)``, where view reads the product's numbers in the weight's shape.

    For a convolution c_in -> c_out of g groups and a k x k kernel, A is (r k, c_in k) and B is (c_out / g k, r k); for
    a linear layer A is (r, c_in) and B is (c_out, r). A starts as loralib's (uniform, Kaiming with a = sqrt 5), B at
    zero. References: Hu et al., arXiv:2106.09685; loralib 0.1.2, ``ConvLoRA`` and ``Linear``.

    Parameters
    ----------
    weight : (c_out, c_in / g) or (c_out, c_in / g, k, k); gives the device and dtype of the factors
    groups : g
    rank, scale : r, and lora_alpha / r
    """

    def __init__(self, weight: Tensor, groups: int, rank: int, scale: float) -> None:
        super().__init__()
        side = weight.shape[2] if weight.ndim > 2 else 1  # kernels are square
        outs, ins = weight.shape[0] // groups * side, weight.shape[1] * groups * side
        self.lora_A = nn.Parameter(weight.new_empty(rank * side, ins))
        self.lora_B = nn.Parameter(weight.new_zeros(outs, rank * side))
        self.scale = scale
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * torch.mm(self.lora_B, self.lora_A).view(weight.shape)


def loralib_shape(layout: KernelLayout) -> tuple[int, int]:
    """(c_out / g, c_in): the update's matrix without its factors of k, whose smaller side is the largest rank."""
    outs, ins = layout.channels
    return outs // layout.groups, ins * layout.groups


def add_loralib_(model: nn.Module, layers: Iterable[str], options: MethodOptions) -> None:
    """Put the update on the weight of each of these layers; the layers compute what they did, bit for bit."""
    for name in layers:
        layer = model.get_submodule(name)
        layout = layout_of(name, layer, block=1)
        rank, scale = options.rank_of(layout), options.adapter_scale
        update = LoralibUpdate(layer.weight.detach(), layout.groups, rank, scale)
        parametrize_(layer, "weight", update)


def loralib_factors(model: nn.Module) -> dict[str, Tensor]:
    """What put_loralib_ takes: "LAYER.lora_A" and "LAYER.lora_B", contiguous, on the CPU; the scale is part of B."""
    found = {}
    for name, update in model.named_modules():
        if isinstance(update, LoralibUpdate):
            layer = name.removesuffix(".parametrizations.weight.0")
            found[f"{layer}.lora_A"] = update.lora_A.detach().cpu().contiguous()
            found[f"{layer}.lora_B"] = (update.scale * update.lora_B.detach()).cpu().contiguous()
    return found


def put_loralib_(model: nn.Module, factors: Mapping[str, Tensor], source: str) -> None:
    """Add the updates of these factors (see loralib_factors) to the weights of their layers, in place.

    Raises FiltersubError, naming ``source`` and the first name or shape that does not fit; nothing is changed then.
    """
    layers, updates = dict(model.named_modules()), {}
    for name in dict.fromkeys(key.rpartition(".lora_")[0] for key in factors):
        pair = [factors.get(f"{name}.lora_{side}") for side in "AB"]
        weight = getattr(layers.get(name), "weight", None)
        if weight is None or any(factor is None or factor.ndim != 2 for factor in pair):
            raise FiltersubError(f"{source} does not fit this network: it has no layer {name!r} with both factors")
        a, b = pair
        if a.shape[0] != b.shape[1] or b.shape[0] * a.shape[1] != weight.numel():
            shapes = f"{tuple(b.shape)} x {tuple(a.shape)}"
            raise FiltersubError(f"{source} does not fit this network: {name} is {tuple(weight.shape)}, not {shapes}")
        updates[name] = torch.mm(b.to(weight), a.to(weight)).view(weight.shape)
    for name, update in updates.items():
        with torch.no_grad():
            layers[name].weight += update


class TuckerUpdate(nn.Module):
    """``weight -> weight + scale * update``, the update and its start those of LyCORIS.

    For a kernel (c_out, c_in / g, *k) with core C of rank r, all of it zero at the start:

        tucker-lora   sum over p, q of C[p, q, *k] up[o, p] down[q, i]
        tucker-loha   the product, entry by entry, of two of these
        tucker-lokr   Kronecker product of a small matrix and one of these; the second whole where r is large

    Pointwise kernels and linear layers have no core: their factors are plain matrices.
    References: Yeh et al., arXiv:2309.14859; lycoris-lora 4.1, ``lycoris.functional``.

    Parameters
    ----------
    weight : gives shape, device and dtype
    method : a name in TUCKER_METHODS
    rank, scale : r, and alpha / r

    Raises FiltersubError where lycoris-lora is not installed.
    """

    def __init__(self, weight: Tensor, method: str, rank: int, scale: float) -> None:
        super().__init__()
        self.method, self.scale = method, scale
        algorithm, self._names = _ALGORITHMS[method]
        with torch.device(weight.device):
            factors = _lycoris(algorithm).weight_gen(weight, rank, tucker=prod(weight.shape[2:]) > 1)
        for name, factor in zip(self._names, factors, strict=True):
            self.register_parameter(name, None if factor is None else nn.Parameter(factor.to(weight.dtype)))

    def forward(self, weight: Tensor) -> Tensor:
        algorithm, factors = _ALGORITHMS[self.method][0], [getattr(self, name) for name in self._names]
        library = _lycoris(algorithm)
        device = "cpu" if weight.is_meta else weight.device.type
        with torch.autocast(device, enabled=False):  # LoHa's backward pass is written out, in one dtype
            if algorithm == "lokr":
                update = library.kron_weight(*factors, scale=self.scale, backend="torch")
            else:
                scale = weight.new_tensor(self.scale) if algorithm == "loha" else self.scale
                update = library.diff_weight(*factors, gamma=scale, backend="torch")
        return weight + update.reshape(weight.shape)


def add_tucker_(model: nn.Module, layers: Iterable[str], method: str, rank: int, scale: float) -> None:
    """Put the update on the weight of each of these layers; the layers compute what they did."""
    for name in layers:
        layer = model.get_submodule(name)
        parametrize_(layer, "weight", TuckerUpdate(layer.weight.detach(), method, rank, scale))


def check_lycoris(method: str) -> None:
    """Raises FiltersubError where the method needs lycoris-lora and it is not installed."""
    if method in _ALGORITHMS:
        _lycoris(_ALGORITHMS[method][0])


def _lycoris(algorithm: str) -> Any:
    """LyCORIS's functions of one algorithm. Its import takes seconds, so only who asks for a method waits for it."""
    try:
        from lycoris.functional import locon, loha, lokr
    except ImportError:
        raise FiltersubError("Tucker updates need the package lycoris-lora: pip install 'filtersub[lycoris]'") from None
    return {"locon": locon, "loha": loha, "lokr": lokr}[algorithm]
