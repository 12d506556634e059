#!/usr/bin/env bash
# keras 3.15.1 on torch: average pooling with padding "same" repeats the edge, `ops.pad(mode="symmetric")` does too, `ops.cross` takes another axis.
#
# Behaviour: a window of "same" average pooling that reaches over the edge is the mean of the pixels inside the image, on the NumPy
# backend as on TensorFlow. On torch, where the padding is not equal on all sides (even windows, stride 2 on an even side), the edge is
# repeated instead: it counts twice. Where it is equal on all sides torch is right, so one network is right for one size of image
# and wrong for another. `pad` with "symmetric" repeats the edge instead of mirroring it. `cross` of arrays (3, 3) runs along the first axis,
# on NumPy along the last. Maxima and convolutions, transposed ones too, agree. Nothing is said but torch's note that `cross`
# without an axis is deprecated. (Mended in keras-team/keras 23233 and 23230, which this release does not have.)
# Guess before: the backends agree, but for transposed convolutions, of which the documentation warns.
# Seen (keras 3.15.1, torch 2.13.0, jax 0.10.2, NumPy 2.4.6, Python 3.11, Linux x86-64), torch against NumPy:
#   maximum, side 8, window 3, stride 2  same
#   average, side 9, window 3, stride 2  same
#   average, side 8, window 3, stride 2  other
#   average, side 8, window 4, stride 1  other
#   pad 0 1 2 3 by 2, reflect            same
#   pad 0 1 2 3 by 2, symmetric          other
#   cross of (3, 3)                      other
#   symmetric on torch: 0 0 0 1 2 3 3 3
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 torch==2.13.0 jax==0.10.2 numpy==2.4.6 scipy==1.17.1
cat > "$folder/look.py" <<'PY'
import sys
import warnings

import numpy
from keras import layers, ops

warnings.simplefilter("ignore")


def pooled(pooling, side, window, stride):
    image = numpy.random.default_rng(0).normal(size=(1, side, side, 2)).astype("float32")
    layer = pooling(window, strides=stride, padding="same", data_format="channels_last")
    return ops.convert_to_numpy(layer(image))


told = {
    "maximum, side 8, window 3, stride 2": pooled(layers.MaxPooling2D, 8, 3, 2),
    "average, side 9, window 3, stride 2": pooled(layers.AveragePooling2D, 9, 3, 2),
    "average, side 8, window 3, stride 2": pooled(layers.AveragePooling2D, 8, 3, 2),
    "average, side 8, window 4, stride 1": pooled(layers.AveragePooling2D, 8, 4, 1),
    "pad 0 1 2 3 by 2, reflect": ops.convert_to_numpy(ops.pad(numpy.arange(4.0, dtype="float32"), (2, 2), mode="reflect")),
    "pad 0 1 2 3 by 2, symmetric": ops.convert_to_numpy(ops.pad(numpy.arange(4.0, dtype="float32"), (2, 2), mode="symmetric")),
    "cross of (3, 3)": ops.convert_to_numpy(ops.cross(numpy.arange(9.0).reshape(3, 3) ** 2, numpy.eye(3))),
}
numpy.savez(sys.argv[1], **told)
PY
cat > "$folder/compare.py" <<'PY'
import numpy

RIGHT = {"maximum, side 8, window 3, stride 2", "average, side 9, window 3, stride 2", "pad 0 1 2 3 by 2, reflect"}
given, wanted = numpy.load("torch.npz"), numpy.load("numpy.npz")
for name in wanted:
    same = numpy.allclose(given[name], wanted[name], atol=1e-5)
    print(f"{name:36} {'same' if same else 'other'}")
    assert same == (name in RIGHT), "the behaviour has changed"
print("symmetric on torch:", *(round(float(value)) for value in given["pad 0 1 2 3 by 2, symmetric"]))
PY
cd "$folder"
for backend in torch numpy; do
  KERAS_HOME="$folder" KERAS_BACKEND=$backend venv/bin/python look.py $backend.npz 2> warnings || { cat warnings; exit 1; }
done
venv/bin/python compare.py
