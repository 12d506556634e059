#!/usr/bin/env bash
# lora-pro-adamw 0.2.1: steps are sqrt(rank) times too large with rsLoRA, and the solver of the "efficient" mode solves another equation.
#
# Behaviour: LoRA-Pro divides by the scale of the update twice, so it has to know it. The optimiser takes alpha / r, also where peft's
# `use_rslora=True` scales by alpha / sqrt(r): at rank 16 the merged weight moves four times as far a step as with plain LoRA of the same
# scale. In the "efficient" mode the default solver "vec" stacks the unknown by rows where its matrix is made for columns: what
# it returns leaves a residual of half the right-hand side. The other one, "eig", solves the equation; the README speaks
# of a tiny numerical difference, and the two learn updates that differ by a tenth after six steps. Nothing is said.
# Guess before: the change of the product is the projection of the full gradient that the paper derives, with the layer's scale.
# Seen (lora-pro-adamw 0.2.1, peft 0.21.2, torch 2.14.1, Python 3.11, Linux x86-64):
#   mean change of the weight a step / learning rate, scale 1 at rank 16: LoRA 0.82, rsLoRA 3.23
#   residual of the Sylvester equation / its right-hand side: vec 0.46, eig 0.00
#   updates of "vec" after six steps, away from those of "eig": 0.12
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 transformers==5.24.0 peft==0.21.2 \
    lora-pro-adamw==0.2.1
cat > "$folder/look.py" <<'PY'
import torch
from lora_pro import LoRAProAdamW, _lorapro
from peft import LoraConfig, get_peft_model
from torch import nn

RATE, RANK, STEPS = 1e-3, 16, 6


def trained(mode, solver="vec", **options):
    """The update of the weight, its scale, and its mean change a step / learning rate."""
    torch.manual_seed(0)
    model = get_peft_model(nn.Sequential(nn.Linear(32, 24)), LoraConfig(r=RANK, target_modules=["0"], **options))
    images, wanted = torch.randn(64, 32), torch.randn(64, 24)
    layer = model.base_model.model[0]
    nn.init.normal_(layer.lora_B["default"].weight, std=0.05)
    optimizer = LoRAProAdamW(model, lr=RATE, weight_decay=0.0, lorapro_mode=mode, efficient_solver=solver)
    updates = [layer.get_delta_weight("default").detach().clone()]
    for _ in range(STEPS):
        optimizer.zero_grad()
        (model(images) - wanted).square().mean().backward()
        optimizer.step()
        updates.append(layer.get_delta_weight("default").detach().clone())
    moved = sum(float((new - old).abs().mean()) for old, new in zip(updates, updates[1:], strict=False))
    return updates[-1], layer.scaling["default"], moved / STEPS / RATE


_, plain_scale, plain = trained("full", lora_alpha=RANK)
_, scale, stabilised = trained("full", lora_alpha=4, use_rslora=True)
print(f"mean change of the weight a step / learning rate, scale {scale:.0f} at rank 16: LoRA {plain:.2f}, rsLoRA {stabilised:.2f}")
assert plain_scale == scale == 1 and 3 < stabilised / plain < 5, "the behaviour has changed"

torch.manual_seed(0)
wide, tall = torch.randn(20, 6, dtype=torch.float64), torch.randn(30, 6, dtype=torch.float64)
left, right, target = wide.T @ wide, tall.T @ tall, torch.randn(6, 6, dtype=torch.float64)
residuals = []
for solve in (_lorapro._solve_sylvester_vec, _lorapro._solve_sylvester):
    solution = solve(left, right, target)
    residuals.append(float((left @ solution + solution @ right - target).norm() / target.norm()))
print(f"residual of the Sylvester equation / its right-hand side: vec {residuals[0]:.2f}, eig {residuals[1]:.2f}")
assert residuals[0] > 0.2 and residuals[1] < 1e-9, "the behaviour has changed"

found, wanted = (trained("efficient", solver, lora_alpha=RANK)[0] for solver in ("vec", "eig"))
apart = float((found - wanted).norm() / wanted.norm())
print(f'updates of "vec" after six steps, away from those of "eig": {apart:.2f}')
assert apart > 0.05, "the behaviour has changed"
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py"
