#!/usr/bin/env bash
# SimpleITK 2.5.7: second and higher derivatives are divided by the spacing once, not once for each order.
#
# Behaviour: `Derivative` has the image's spacing taken into account by default, "to compute the derivatives in physical
# space". The first derivative is right. The second is the true one times the spacing, the third times its square: of
# voxels of 0.5 mm half, of slices of 3 mm three times the curvature, so the sum of second derivatives along the axes of
# a stack is no Laplacian. `Laplacian`, of the same image, is right; so are all orders where the spacing is 1.
# Guess before: the second derivative is that of `Laplacian`.
# Seen (SimpleITK 2.5.7, NumPy 2.4.6, Python 3.11, Linux x86-64), where each derivative of the image is 1:
#   spacing 0.5: order 1 gives 1.000, order 2 gives 0.500, order 3 gives 0.250; Laplacian 1.000
#   spacing 1.0: order 1 gives 1.000, order 2 gives 1.000, order 3 gives 1.000; Laplacian 1.000
#   spacing 3.0: order 1 gives 1.000, order 2 gives 3.000, order 3 gives 9.000; Laplacian 1.000
#   a blob of (0.5, 0.5, 3.0) mm voxels: second derivatives sum to -0.150 at its centre, Laplacian -0.116
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check SimpleITK==2.5.7 numpy==2.4.6
cat > "$folder/look.py" <<'PY'
from math import factorial

import numpy
import SimpleITK as sitk

for spacing in (0.5, 1.0, 3.0):
    place = spacing * numpy.arange(16)
    found = {}
    for order in (1, 2, 3):
        image = sitk.GetImageFromArray(numpy.tile(place**order / factorial(order), (16, 1)))
        image.SetSpacing((spacing, spacing))
        found[order] = sitk.GetArrayFromImage(sitk.Derivative(image, 0, order))[8, 8]
        if order == 2:
            laplacian = sitk.GetArrayFromImage(sitk.Laplacian(image))[8, 8]
    words = ", ".join(f"order {order} gives {value:.3f}" for order, value in found.items())
    print(f"spacing {spacing}: {words}; Laplacian {laplacian:.3f}")
    assert abs(laplacian - 1) < 1e-6, "the behaviour has changed"
    for order, value in found.items():
        assert abs(value - spacing ** (order - 1)) < 1e-6, "the behaviour has changed"
sides = numpy.meshgrid(*(step * (numpy.arange(15) - 7) for step in (3.0, 0.5, 0.5)), indexing="ij")
blob = sitk.GetImageFromArray(numpy.exp(-sum(side**2 for side in sides) / 50))
blob.SetSpacing((0.5, 0.5, 3.0))
total = sum(sitk.GetArrayFromImage(sitk.Derivative(blob, axis, 2))[7, 7, 7] for axis in range(3))
laplacian = sitk.GetArrayFromImage(sitk.Laplacian(blob))[7, 7, 7]
words = f"second derivatives sum to {total:.3f} at its centre, Laplacian {laplacian:.3f}"
print("a blob of (0.5, 0.5, 3.0) mm voxels: " + words)
assert abs(total - laplacian) > 0.01, "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
