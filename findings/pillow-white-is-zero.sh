#!/usr/bin/env bash
# Pillow 13.0.0, 16-bit grey TIFF whose zero means white (PhotometricInterpretation 0): black and white are swapped.
#
# Behaviour: an 8-bit grey TIFF of that kind is inverted when it is opened, so that 0 is black, as everywhere else. A 16-bit
# one, as microscopes and scanners write them, is opened with its stored numbers and no word: the negative of the image. A
# network that is trained on such files beside ordinary ones sees two kinds of images.
# Guess before: inverted, as for 8 bits.
# Seen (Pillow 13.0.0, NumPy 2.2.6, tifffile 2025.5.10, Python 3.11, Linux x86-64; a black square on white):
#   8 bits: black square reads 0, white ground 255
#   16 bits: black square reads 65535, white ground 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 numpy==2.2.6 tifffile==2025.5.10
cat > "$folder/look.py" <<'PY'
import numpy
import tifffile
from PIL import Image

for dtype in (numpy.uint8, numpy.uint16):
    most = numpy.iinfo(dtype).max
    stored = numpy.zeros((8, 8), dtype)  # zero is white
    stored[2:6, 2:6] = most  # the square is black
    tifffile.imwrite("square.tif", stored, photometric="miniswhite")
    read = numpy.asarray(Image.open("square.tif"))
    bits = numpy.iinfo(dtype).bits
    print(f"{bits} bits: black square reads {read[3, 3]}, white ground {read[0, 0]}")
    assert (read[3, 3] == 0 and read[0, 0] == most) == (bits == 8), "the behaviour has changed"
PY
cd "$folder"
venv/bin/python look.py
