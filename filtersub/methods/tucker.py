"""Low-rank, Hadamard and Kronecker updates whose spatial part is a core of its own: LyCORIS's Tucker form.

The k x k sides are kept in a core of (r, r, k, k), so that rank costs r^2 k^2 numbers a layer, not r k^2 for each
channel. LyCORIS names the option ``use_tucker``, once ``use_cp``. peft has none of it for low-rank updates.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import FiltersubError
from .parametrizations import parametrize_

#: method -> LyCORIS's algorithm and the names of its factors
_ALGORITHMS = {
    "tucker-lora": ("locon", ("down", "up", "mid")),
    "tucker-loha": ("loha", ("w1d", "w1u", "w2d", "w2u", "t1", "t2")),
    "tucker-lokr": ("lokr", ("w1", "w1a", "w1b", "w2", "w2a", "w2b", "t2")),
}
TUCKER_METHODS = tuple(_ALGORITHMS)


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
