#!/usr/bin/env bash
# nibabel 5.4.2: `smooth_image` and the resampling functions of `nibabel.processing` compute in whole numbers where the image is stored so.
#
# Behaviour: an integer image without a scale factor is smoothed in its own type: after each of the three axes the
# result is cut to a whole number. A mask of ones comes out empty, of an image of 100 a tenth of the sum is lost.
# Resampling rounds as well: the mask on half the grid is 22 % larger. The same voxels as float32, or in a file that has
# a scale factor, come out right. Nothing in the documentation speaks of types, and nothing is said.
# Guess before: the result is scipy's Gaussian filter, with the width in voxels, whatever the type of the voxels.
# Seen (nibabel 5.4.2, SciPy 1.17.1, NumPy 2.4.6, Python 3.11, Linux x86-64), a cube of 5 x 5 x 5 voxels, smoothed by 4 mm:
#   cube of 1, SciPy: sum 124.9, largest 0.65
#   cube of 1, uint8: sum 0.0, largest 0.00; linear at 0.5 mm: sum 151.9
#   cube of 1, int16: sum 0.0, largest 0.00; linear at 0.5 mm: sum 151.9
#   cube of 1, float32: sum 124.9, largest 0.65; linear at 0.5 mm: sum 125.0
#   cube of 100, SciPy: sum 12491.7, largest 64.66
#   cube of 100, uint8: sum 11147.0, largest 63.00; linear at 0.5 mm: sum 12500.5
#   cube of 100, int16: sum 11147.0, largest 63.00; linear at 0.5 mm: sum 12500.5
#   cube of 100, float32: sum 12491.7, largest 64.66; linear at 0.5 mm: sum 12500.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nibabel==5.4.2 scipy==1.17.1 numpy==2.4.6
cat > "$folder/look.py" <<'PY'
import nibabel
import numpy
from nibabel.processing import resample_to_output, smooth_image
from scipy.ndimage import gaussian_filter

cube = numpy.zeros((15, 15, 15))
cube[5:10, 5:10, 5:10] = 1
for value in (1, 100):
    wanted = gaussian_filter(value * cube, 4 / numpy.sqrt(8 * numpy.log(2)), mode="nearest")
    print(f"cube of {value}, SciPy: sum {wanted.sum():.1f}, largest {wanted.max():.2f}")
    for name in ("uint8", "int16", "float32"):
        image = nibabel.Nifti1Image((value * cube).astype(name), numpy.eye(4))
        found = smooth_image(image, 4).get_fdata()
        finer = resample_to_output(image, 0.5, order=1).get_fdata()
        print(
            f"cube of {value}, {name}: sum {found.sum():.1f}, largest {found.max():.2f}; "
            f"linear at 0.5 mm: sum {finer.sum() / 8:.1f}"
        )
        lost = 1 - found.sum() / wanted.sum()
        assert (lost > 0.1) == (name != "float32"), "the behaviour has changed"
        assert value > 1 or name == "float32" or not found.any(), "the behaviour has changed"
        assert (abs(finer.sum() / 8 / value - 125) > 1) == (name != "float32" and value == 1), (
            "the behaviour has changed"
        )
PY
"$folder/venv/bin/python" "$folder/look.py"
