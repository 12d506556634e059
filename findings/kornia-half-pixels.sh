#!/usr/bin/env bash
# kornia 0.9.0: an identity map blurs, an odd centre crop averages pixels, and two functions called resize differ.
#
# Behaviour: `geometry.remap` with the map that names each pixel itself returns another image (it takes positions at the corners and
# reads them half a pixel off) unless `align_corners=True` is given; OpenCV's returns the image. `geometry.center_crop` interpolates
# between pixels where the sizes differ by an odd number; `augmentation.CenterCrop` copies pixels. `augmentation.Resize`,
# `LongestMaxSize` and `SmallestMaxSize` stretch from corner to corner (`align_corners=True`), `geometry.resize` does not,
# as torch's and torchvision's do not: a network pretrained with one sees other images by the other.
# Guess before: an identity map gives the image, a crop copies pixels, and both resizings give the same image.
# Seen (kornia 0.9.0, torch 2.14.1, opencv-python-headless 5.0.0.93, Python 3.11, Linux x86-64; random 24 x 24 pixels of 0 to 1):
#   identity map: OpenCV changes at most 0.00, kornia more than 0.3: True, with align_corners=True at most 0.00
#   centre crop 24 to 22: pixels are copied: True (function), True (augmentation)
#   centre crop 24 to 21: pixels are copied: False (function), True (augmentation)
#   resize to half: function far from torch's by at most 0.00; Resize, LongestMaxSize, SmallestMaxSize by more than 0.3: True
#   resize to half: Resize far from torch's with align_corners=True by at most 0.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6 kornia==0.9.0 opencv-python-headless==5.0.0.93
cat > "$folder/look.py" <<'PY'
import cv2
import kornia
import torch
from torch.nn.functional import interpolate

torch.manual_seed(0)
image = torch.rand(1, 1, 24, 24)
columns, rows = (grid[None].float() for grid in torch.meshgrid(torch.arange(24), torch.arange(24), indexing="xy"))


def far(one, other):
    return float((one - other).abs().max())


opencv = cv2.remap(image[0, 0].numpy(), columns[0].numpy(), rows[0].numpy(), cv2.INTER_LINEAR)
plain = far(torch.from_numpy(opencv), image[0, 0])
mapped = far(kornia.geometry.remap(image, columns, rows), image)
aligned = far(kornia.geometry.remap(image, columns, rows, align_corners=True), image)
print(
    f"identity map: OpenCV changes at most {plain:.2f}, kornia more than 0.3: {mapped > 0.3}, "
    f"with align_corners=True at most {aligned:.2f}"
)
assert plain < 1e-4 and mapped > 0.3 and aligned < 1e-4, "the behaviour has changed"


def copied(crop, side):
    """Is the crop some window of the image?"""
    offsets = range(25 - side)
    return min(far(crop, image[..., i : i + side, j : j + side]) for i in offsets for j in offsets) < 1e-4


for side in (22, 21):
    function = copied(kornia.geometry.center_crop(image, (side, side)), side)
    augmentation = copied(kornia.augmentation.CenterCrop(side)(image), side)
    print(f"centre crop 24 to {side}: pixels are copied: {function} (function), {augmentation} (augmentation)")
    assert (function, augmentation) == (side % 2 == 0, True), "the behaviour has changed"

halved = interpolate(image, (12, 12), mode="bilinear")
function = far(kornia.geometry.resize(image, (12, 12)), halved)
resize = kornia.augmentation.Resize((12, 12))(image)
others = [kornia.augmentation.LongestMaxSize(12)(image), kornia.augmentation.SmallestMaxSize(12)(image)]
least = min(far(result, halved) for result in (resize, *others))
print(
    f"resize to half: function far from torch's by at most {function:.2f}; "
    f"Resize, LongestMaxSize, SmallestMaxSize by more than 0.3: {least > 0.3}"
)
corners = far(resize, interpolate(image, (12, 12), mode="bilinear", align_corners=True))
print(f"resize to half: Resize far from torch's with align_corners=True by at most {corners:.2f}")
assert function < 1e-4 and least > 0.3 and corners < 1e-4, "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
