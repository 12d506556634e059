"""Two processes (gloo) train as one does."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

SCRIPT = """
import sys
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from peft import get_peft_model
from filtersub.tuning import FilterSubspaceConfig

rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
torch.manual_seed(0)
body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 4, 1)).double()
options = {"solver": "pca", "block": 2, "atoms": 3, "expansion": 2, "expansion_coefficients": "per-channel"}
model = get_peft_model(body, FilterSubspaceConfig(target_modules=".*", hold_coefficients=True, **options))
images = torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
runner = model
if world > 1:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    runner = DistributedDataParallel(model)
    assert any(".filtersub_coefficients." in name for name in runner.parameters_to_ignore)
    assert not any(name in runner.parameters_to_ignore for name, p in model.named_parameters())
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.05)
for _ in range(3):
    optimizer.zero_grad()
    runner(images[rank :: world]).square().mean().backward()
    optimizer.step()
torch.save({n: p for n, p in model.named_parameters() if p.requires_grad}, f"{folder}/{world}-{rank}.pt")
if world > 1:
    dist.destroy_process_group()
"""


@pytest.mark.slow  # three processes
def test_two_processes_give_the_result_of_one(run_code, tmp_path):
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(run_code, SCRIPT, rank, world, tmp_path) for world in (1, 2) for rank in range(world)]
    assert [(run.result().returncode, run.result().stderr) for run in runs] == [(0, "")] * 3
    one, first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1"))
    assert one
    for name, alone in one.items():
        torch.testing.assert_close(first[name], alone, atol=1e-12, rtol=1e-10)
        assert torch.equal(first[name], second[name])
    assert any(value.abs().sum() > 0 for name, value in one.items() if "atoms" in name)
