#!/usr/bin/env bash
# torch 2.14.1, `fully_shard` (FSDP2): one look at a gathered weight by `.numpy()` in a forward pass breaks the pass.
#
# Behaviour: FSDP2 frees gathered weights by resizing their storage. `Tensor.numpy()` marks the storage as one that can never be
# resized again, for good, even where the array is dropped at once: "Trying to resize storage that is not resizable" is
# raised far from the line that looked. `.tolist()` and `numpy.from_dlpack` read the same memory without that.
# Guess before: an array that shares memory changes nothing about the tensor.
# Seen (torch 2.14.1, one process, Python 3.11, Linux x86-64):
#   no look: works
#   tolist: works
#   numpy.from_dlpack: works
#   numpy(): RuntimeError: Trying to resize storage that is not resizable
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
cat > "$folder/look.py" <<'PY'
import os
from collections.abc import Callable

import numpy
import torch
import torch.distributed
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0", RANK="0", WORLD_SIZE="1")
torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)


class Network(nn.Module):
    def __init__(self, look: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.layer, self.look = nn.Conv2d(3, 4, 3), look

    def forward(self, images: Tensor) -> Tensor:
        self.look(self.layer.weight.detach())
        return self.layer(images)


def two_steps(look: Callable[[Tensor], object]) -> str:
    network = Network(look)
    fully_shard(network)
    try:
        for _ in range(2):
            network(torch.randn(1, 3, 8, 8)).sum().backward()
    except RuntimeError as error:
        return f"RuntimeError: {error}"
    return "works"


looks = {
    "no look": lambda weight: None,
    "tolist": lambda weight: weight.tolist(),
    "numpy.from_dlpack": lambda weight: float(numpy.from_dlpack(weight).sum()),
    "numpy()": lambda weight: float(weight.numpy().sum()),
}
found = {name: two_steps(look) for name, look in looks.items()}
for name, result in found.items():
    print(f"{name}: {result}")
torch.distributed.destroy_process_group()
assert "not resizable" in found["numpy()"], "the behaviour has changed"
assert {found[name] for name in looks if name != "numpy()"} == {"works"}, "the others work"
PY
"$folder/venv/bin/python" "$folder/look.py"
