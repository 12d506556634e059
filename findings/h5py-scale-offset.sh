#!/usr/bin/env bash
# h5py 3.16.0: "scaleoffset" turns what is nearer to 0 than a unit of its last digit into 0, and NaN into a number.
#
# Behaviour: `create_dataset(scaleoffset=n)` is to keep n digits after the point: "stored values thus have absolute
# error less than 0.5*10**(-scaleoffset)". Numbers nearer than 10**-n to the fill value, which is 0 unless told, are
# read as the fill value instead: 0.0099 with two digits is 0, not 0.01. The error is up to a whole 10**-n, towards 0.
# Of a kernel whose weights are spread by 0.02, 38 % become 0 with two digits, by rounding 19 %. With a fill value far
# from the data the error is as told (the digits then count from the smallest number of the chunk, so nothing is just
# 0). NaN is stored without a word: it is read as the smallest number of its chunk, with a fill value of NaN too, and
# where it stands first in its chunk, that chunk cannot be read any more.
# Guess before: the error is at most half a unit of the last digit, NaN stays NaN.
# Seen (h5py 3.16.0, HDF5 2.0.0, NumPy 2.4.6, Python 3.11, Linux x86-64):
#   digits 2, fill value 0: zeros 37.9 %, by rounding 19.5 %; largest error 1.00 units, relative error 0.208, by rounding 0.144
#   digits 2, fill value 99: zeros 0.0 %, by rounding 19.5 %; largest error 0.50 units, relative error 0.144, by rounding 0.144
#   digits 3, fill value 0: zeros 3.8 %, by rounding 1.8 %; largest error 1.00 units, relative error 0.015, by rounding 0.014
#   digits 3, fill value 99: zeros 0.0 %, by rounding 1.8 %; largest error 0.50 units, relative error 0.014, by rounding 0.014
#   NaN, fill value 0: written [0.5, nan, -0.25, 0.75], read [0.5, -0.25, -0.25, 0.75]
#   NaN, fill value nan: written [0.5, nan, -0.25, 0.75], read [0.5, -0.25, -0.25, 0.75]
#   NaN first: written, reading says: filter returned failure during read
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check h5py==3.16.0 numpy==2.4.6
cat > "$folder/look.py" <<'PY'
import h5py
import numpy


def stored(array, digits, fill):
    with h5py.File("stored.h5", "w") as file:
        file.create_dataset("array", data=array, scaleoffset=digits, fillvalue=fill, chunks=array.shape)
    with h5py.File("stored.h5") as file:
        return file["array"][:]


kernel = (numpy.random.default_rng(0).normal(size=(64, 64, 3, 3)) * 0.02).astype(numpy.float32)
for digits in (2, 3):
    for fill in (0, 99):
        found, rounded = stored(kernel, digits, fill), kernel.round(digits)
        zeros = [100 * float((array == 0).mean()) for array in (found, rounded)]
        largest = float(abs(found - kernel).max()) * 10**digits
        errors = [float(numpy.linalg.norm(array - kernel) / numpy.linalg.norm(kernel)) for array in (found, rounded)]
        print(
            f"digits {digits}, fill value {fill}: zeros {zeros[0]:.1f} %, by rounding {zeros[1]:.1f} %; "
            f"largest error {largest:.2f} units, relative error {errors[0]:.3f}, by rounding {errors[1]:.3f}"
        )
        wrong = fill == 0
        assert (largest > 0.99) == (zeros[0] > 1.9 * zeros[1]) == wrong, "the behaviour has changed"
        assert wrong or largest < 0.51, "the behaviour has changed"
row = numpy.array([0.5, numpy.nan, -0.25, 0.75], numpy.float32)
for fill in (0, numpy.nan):
    found = stored(row, 3, fill)
    print(f"NaN, fill value {fill}: written {row.tolist()}, read {[round(float(number), 3) for number in found]}")
    assert not numpy.isnan(found).any() and abs(found[1] - row[2]) < 1e-3, "the behaviour has changed"
try:
    stored(row[1:], 3, 0)
except OSError as error:
    print("NaN first: written, reading says: " + str(error).partition("(")[2].rstrip(")"))
else:
    raise AssertionError("the behaviour has changed")
PY
cd "$folder"
venv/bin/python look.py
