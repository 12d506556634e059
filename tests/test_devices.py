"""A device that is not the CPU, without one: tensors that have a device and no numbers, where torch refuses to mix two.

torch refuses so in sums and products, not in convolutions nor where an optimiser takes all parameters at once. It
registers a device of its own for the whole process, so the work is done in another one.
"""

import json

import pytest
import torch

SETTINGS = {
    "setting 1": {"atoms": 4},
    "setting 1, linear codes": {"atoms": 4, "solver": "pca"},
    "setting 2": {"atoms": 4, "expansion": 2},
    "setting 3": {"atoms": 4, "solver": "pca", "block": 2},
    "setting 4": {"atoms": 4, "solver": "pca", "block": 2, "expansion": 2},
    "blocks of alpha": {"atoms": 4, "solver": "pca", "block": 2, "block_coefficients": True},
    "alpha_1 per channel": {"atoms": 4, "solver": "pca", "expansion": 2, "expansion_coefficients": "per-channel"},
    "alpha trained too": {"atoms": 4, "solver": "pca", "train_coefficients": True},
}
STEP = """
import json, sys
import torch
from peft import get_peft_model
from torch import nn
from torch._subclasses import FakeTensorMode
from filtersub import FilterSubspaceConfig
sys.path.insert(0, sys.argv[1])
from conftest import EveryKind

torch.utils.backend_registration._setup_privateuseone_for_python_backend("elsewhere")
mode = FakeTensorMode()
network = get_peft_model(EveryKind(), FilterSubspaceConfig(**json.loads(sys.argv[2]), modules_to_save=["classifier"]))
with mode:
    for module in network.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    moved = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="elsewhere")
                    trains = tensor.requires_grad
                    held[name] = nn.Parameter(moved, trains) if isinstance(tensor, nn.Parameter) else moved
    images = torch.empty(4, 3, 12, 12, device="elsewhere")
    trained = [p for p in network.parameters() if p.requires_grad]
    for layout in (torch.contiguous_format, torch.channels_last):
        network.train()(images.to(memory_format=layout)).sum().backward()
    merged = network.merge_and_unload()
    merged.eval()(images)
gradients = [p.grad.device.type for p in trained]
left = [t.device.type for t in (*merged.parameters(), *merged.buffers())]
print(json.dumps([len(gradients), sorted({*gradients, *left})]))
"""


@pytest.mark.skipif(
    not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch registers no device from Python",
)
@pytest.mark.parametrize("name", SETTINGS)
def test_gradients_and_merged_weights_are_on_the_device(name, run_code, request):
    run = run_code(STEP, request.path.parent, json.dumps(SETTINGS[name]))
    assert run.returncode == 0, run.stderr
    trained, devices = json.loads(run.stdout.splitlines()[-1])
    assert trained >= 9
    assert devices == ["elsewhere"]
