#!/usr/bin/env bash
# mlx 0.32.4: behind a transposed convolution whose output padding is larger than its padding, gradients are wrong.
#
# Behaviour: the forward pass is right. The gradient towards the input of `conv_transpose2d` has too few rows and
# columns where `output_padding` exceeds `padding`, as of kernel 2, stride 2, output padding 1. A convolution before it
# takes it as it comes and returns a gradient of the right shape with other numbers, without a word; where a rectifier
# stands between them, the shapes no longer fit and an error tells. The layer's own weight gets its right gradient.
# `conv_transpose1d`, `conv_transpose3d` and `conv_general` with an input dilation do the same.
# Guess before: outputs and gradients are those of torch.
# Seen (mlx 0.32.4 on the CPU, Python 3.11, Linux x86-64), change of a loss that is linear in the first weight, and the gradient's answer:
#   kernel 2, stride 2, padding 0, output padding 0: change -30.046, by the gradient -30.046; gradient of a 6 x 6 input (6, 6)
#   kernel 2, stride 2, padding 0, output padding 1: change -43.776, by the gradient -56.742; gradient of a 6 x 6 input (5, 5)
#   kernel 3, stride 2, padding 0, output padding 1: change 19.251, by the gradient 19.016; gradient of a 6 x 6 input (5, 5)
#   kernel 3, stride 2, padding 1, output padding 1: change 28.745, by the gradient 28.745; gradient of a 6 x 6 input (6, 6)
#   kernel 3, stride 3, padding 1, output padding 1: change 26.260, by the gradient 26.260; gradient of a 6 x 6 input (6, 6)
#   kernel 3, stride 3, padding 1, output padding 2: change 13.975, by the gradient 25.989; gradient of a 6 x 6 input (5, 5)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mlx==0.32.4 mlx-cpu==0.32.4
cat > "$folder/look.py" <<'PY'
import mlx.core as mx
import mlx.nn as nn

mx.set_default_device(mx.cpu)
CASES = [(2, 2, 0, 0), (2, 2, 0, 1), (3, 2, 0, 1), (3, 2, 1, 1), (3, 3, 1, 1), (3, 3, 1, 2)]
for kernel, stride, padding, output_padding in CASES:
    mx.random.seed(0)
    settings = {"stride": stride, "padding": padding, "output_padding": output_padding}
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.ConvTranspose2d(4, 5, kernel, **settings)]
    network = nn.Sequential(*layers)
    image = mx.random.normal((2, 6, 6, 3))
    factors = mx.random.normal(network(image).shape)
    loss, found = nn.value_and_grad(network, lambda: (network(image) * factors).sum())()
    maps = mx.random.normal((1, 6, 6, 4))
    shape = mx.grad(lambda maps: layers[1](maps).sum())(maps).shape[1:3]
    changes = []
    for layer, gradient in zip(layers, found["layers"]):
        weight = layer.weight
        step = mx.random.normal(weight.shape)
        layer.weight = weight + step
        changes.append((float((network(image) * factors).sum() - loss), float((gradient["weight"] * step).sum())))
        layer.weight = weight
    print(
        f"kernel {kernel}, stride {stride}, padding {padding}, output padding {output_padding}: "
        f"change {changes[0][0]:.3f}, by the gradient {changes[0][1]:.3f}; gradient of a 6 x 6 input {shape}"
    )
    wrong = output_padding > padding
    assert (shape != (6, 6)) == (abs(changes[0][0] - changes[0][1]) > 0.01) == wrong, "the behaviour has changed"
    assert abs(changes[1][0] - changes[1][1]) < 0.01, "the behaviour has changed"
PY
"$folder/venv/bin/python" "$folder/look.py"
