"""``weight + S x B`` and ``dB = S^T dW`` straight on a stored (outs, ins) matrix in blocks (p, q), a share at a time.

Every array holds one line for each block row o': p lines of the weight, the i' codes of that row.
"""

from __future__ import annotations

from ..compile import compiled
from .patch_vectors import add_mapped, add_packed, gather_mapped, gather_packed


@compiled
def sum_packed(total, values, indices, out, small, count, lines, line):
    p, q = len(lines), len(line)
    width = total.shape[1] // p
    n_blocks = width // q
    flat, flat_out = total.reshape(-1), out.reshape(-1)
    flat_values, flat_indices, flat_small = values.reshape(-1), indices.reshape(-1), small.reshape(-1)
    for o in range(total.shape[0]):
        for i in range(n_blocks):
            first, start = o * p * width + i * q, (o * n_blocks + i) * count
            add_packed(flat, flat_out, first, width, flat_values, flat_indices, start, count, flat_small, lines, line)


@compiled
def gradient_packed(gradient, values, indices, into, count, lines, line):
    p, q = len(lines), len(line)
    width = gradient.shape[1] // p
    n_blocks = width // q
    flat, flat_into = gradient.reshape(-1), into.reshape(-1)
    flat_values, flat_indices = values.reshape(-1), indices.reshape(-1)
    for o in range(gradient.shape[0]):
        for i in range(n_blocks):
            first, start = o * p * width + i * q, (o * n_blocks + i) * count
            gather_packed(flat, first, width, flat_values, flat_indices, start, count, flat_into, lines, line)


@compiled
def sum_mapped(total, source, out, small, lines, line):
    p, q = len(lines), len(line)
    width = total.shape[1] // p
    flat, flat_source, flat_out, flat_small = total.reshape(-1), source.reshape(-1), out.reshape(-1), small.reshape(-1)
    for o in range(total.shape[0]):
        for i in range(width // q):
            add_mapped(flat, flat_source, flat_out, o * p * width + i * q, width, flat_small, lines, line)


@compiled
def gradient_mapped(source, gradient, into, lines, line):
    p, q = len(lines), len(line)
    width = source.shape[1] // p
    flat_source, flat, flat_into = source.reshape(-1), gradient.reshape(-1), into.reshape(-1)
    for o in range(source.shape[0]):
        gather_mapped(flat_source, flat, o * p * width, width, width // q, flat_into, lines, line)
