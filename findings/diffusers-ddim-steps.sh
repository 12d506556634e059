#!/usr/bin/env bash
# diffusers 0.42.1, `DDIMScheduler(timestep_spacing="trailing")`: most numbers of steps leave noise in the result.
#
# Behaviour: `set_timesteps(n)` spreads n times over the 1,000 training times, 1000 / n apart, while `step` always goes back
# by 1000 // n. Where n does not divide 1,000 the two drift apart, and the sample that comes out is not the clean one, even
# where the network's prediction of the noise is exact. For some n there are n + 1 times, the last one -1.
# Guess before: with an exact prediction of the noise, DDIM returns the clean image to rounding for every n.
# Seen (diffusers 0.42.1, torch 2.13.0, Python 3.11, Linux x86-64; error: largest difference from the clean image):
#   trailing, 50 steps: 50 times, last 19, error below 0.001: True
#   trailing, 60 steps: 60 times, last 16, error below 0.001: False
#   trailing, 7 steps: 7 times, last 142, error below 0.001: False
#   trailing, 103 steps: 104 times, last -1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 diffusers==0.42.1 numpy==2.2.6
cat > "$folder/look.py" <<'PY'
import torch
from diffusers import DDIMScheduler

for spacing, steps, wrong in (
    ("trailing", 50, False),
    ("trailing", 60, True),
    ("trailing", 7, True),
):
    scheduler = DDIMScheduler(timestep_spacing=spacing, clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(4, generator=generator, dtype=torch.float64)
    noise = torch.randn(4, generator=generator, dtype=torch.float64)
    signal = scheduler.alphas_cumprod.double()
    first = int(scheduler.timesteps[0])
    sample = signal[first].sqrt() * clean + (1 - signal[first]).sqrt() * noise
    for time in scheduler.timesteps:
        level = signal[int(time)]  # what an exact network says: the noise that takes clean to this sample at this time
        exact = (sample - level.sqrt() * clean) / (1 - level).sqrt()
        sample = scheduler.step(exact, int(time), sample).prev_sample
    error = (sample - clean).abs().max().item()
    print(f"{spacing}, {steps} steps: {len(scheduler.timesteps)} times, last {int(scheduler.timesteps[-1])}, "
          f"error below 0.001: {error < 0.001}")
    assert (error >= 0.001) == wrong, "the behaviour has changed"
scheduler = DDIMScheduler(timestep_spacing="trailing")
scheduler.set_timesteps(103)
times = scheduler.timesteps.tolist()
print(f"trailing, 103 steps: {len(times)} times, last {times[-1]}")
assert (len(times), times[-1]) == (104, -1), "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
