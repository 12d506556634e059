#!/usr/bin/env bash
# piq 0.8.0: the SR-SIM score of a pair of images depends on the other images of the batch.
#
# Behaviour: the saliency map inside SR-SIM is brought to 0 to 1 by the smallest and the largest value of the whole batch, not of each
# image. A white image beside a pair takes a tenth off its score, a black one adds to it; so the mean over a test set depends on the
# size of its batches. Nothing is said. PSNR, SSIM, MS-SSIM, VIF, FSIM, GMSD, VSI, HaarPSI, MDSI and DSS give a pair the same score
# in any batch.
# Guess before: with reduction="none" each pair gets the score that it has alone.
# Seen (piq 0.8.0, torch 2.14.1, Python 3.11, Linux x86-64), blurred noise against the same with noise added:
#   srsim alone 0.8593; beside: other noise 0.8596, a block 0.8708, black 0.8711, white 0.7746
#   difference beside white: psnr 0e+00, ssim 0e+00, multi_scale_ssim 0e+00, vif_p 2e-08, fsim 0e+00, gmsd 7e-09, vsi 6e-08,
#     haarpsi 8e-07, mdsi 0e+00, dss 6e-07
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 piq==0.8.0
cat > "$folder/look.py" <<'PY'
import piq
import torch
from torch.nn.functional import avg_pool2d

OTHERS = ("psnr", "ssim", "multi_scale_ssim", "vif_p", "fsim", "gmsd", "vsi", "haarpsi", "mdsi", "dss")


def blurred_noise(seed):
    return avg_pool2d(torch.rand(1, 3, 192, 192, generator=torch.Generator().manual_seed(seed)), 5, 1, 2)


def beside(metric, mate):
    return float(metric(torch.cat([image, mate]), torch.cat([noisy, mate]), reduction="none")[0])


image = blurred_noise(0)
noisy = (image + 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
block = torch.zeros_like(image)
block[..., 60:120, 40:90] = 1
mates = {"other noise": blurred_noise(5), "a block": block, "black": 0 * block, "white": 0 * block + 1}
alone = float(piq.srsim(image, noisy))
seen = {name: beside(piq.srsim, mate) for name, mate in mates.items()}
print(f"srsim alone {alone:.4f}; beside: {', '.join(f'{name} {score:.4f}' for name, score in seen.items())}")
assert seen["white"] < alone - 0.05 and seen["black"] > alone + 0.005, "the behaviour has changed"
gaps = {}
for name in OTHERS:
    metric = getattr(piq, name)
    gaps[name] = abs(beside(metric, mates["white"]) - float(metric(image, noisy)))
print("difference beside white: " + ", ".join(f"{name} {gap:.0e}" for name, gap in gaps.items()))
assert max(gaps.values()) < 1e-5, "the behaviour has changed"
PY
"$folder/venv/bin/python" -W ignore "$folder/look.py"
