"""What a layer may do beside its product and its activation: layer normalisation, CReLU, dropout; there and back.

All work in place of the flat array of a thread's values, `[B, stride]` each. Padding between a row's end and the next
row may be written.
"""

from __future__ import annotations

import math

import numpy as np
from fastplast_kernels.compilation import called
from fastplast_kernels.mlp_step.activations import relu
from fastplast_kernels.mlp_step.layers import NORM_EPSILON
from fastplast_kernels.mlp_step.simd import (
    LANES,
    first_lanes,
    fma,
    load,
    load_first,
    pointer,
    splat,
    store,
    store_first,
    sum_lanes,
    where_positive,
)


@called
def standardise(values, z, stride, standard, factors, params, scale, shift, batch, outputs):
    """Layer normalisation, z = scale * u + shift with u = (z - mean(z)) * r, r = 1 / sqrt(var(z) + epsilon).

    Args:
        values: flat array.
        z: index of the outputs, which are replaced.
        stride: floats from one example to the next, of outputs and u.
        standard: index where u goes.
        factors: index where r goes, `[B]`.
        params: flat parameters.
        scale: index of the factors `[O]`.
        shift: index of what is added `[O]`.
        batch: B.
        outputs: O.
    """
    values, params = pointer(values), pointer(params)
    for b in range(batch):
        row, out = z + b * stride, standard + b * stride
        total = splat(0.0)
        for i in range(0, outputs, LANES):
            total = total + load_first(values, row + i, outputs - i)
        mean, total = splat(sum_lanes(total) / outputs), splat(0.0)
        for i in range(0, outputs, LANES):
            centred = first_lanes(load(values, row + i) - mean, outputs - i)
            total = fma(centred, centred, total)
        r = np.float32(1.0 / math.sqrt(sum_lanes(total) / outputs + NORM_EPSILON))
        values[factors + b] = r
        for i in range(0, outputs, LANES):
            lanes = outputs - i
            u = (load(values, row + i) - mean) * splat(r)
            store(values, out + i, u)
            store(values, row + i, fma(load_first(params, scale + i, lanes), u, load_first(params, shift + i, lanes)))


@called
def standardise_backward(values, d, stride, standard, factors, params, scale, batch, outputs):
    """The gradient through `standardise`: D = r (G - mean(G) - u mean(G u)) with G = d * scale, in place of d.

    u gives way to d * u, whose sum over the examples is the gradient of the scale.

    Args:
        values: flat array.
        d: index of the gradients with respect to the normalised outputs.
        stride: floats from one example to the next.
        standard: index of u.
        factors: index of r.
        params: flat parameters.
        scale: index of the factors.
        batch: B.
        outputs: O.
    """
    values, params = pointer(values), pointer(params)
    for b in range(batch):
        row, out = d + b * stride, standard + b * stride
        total, product = splat(0.0), splat(0.0)
        for i in range(0, outputs, LANES):
            lanes = outputs - i
            g = load_first(values, row + i, lanes) * load_first(params, scale + i, lanes)
            total = total + g
            product = fma(g, load_first(values, out + i, lanes), product)
        mean, slope = splat(sum_lanes(total) / outputs), splat(sum_lanes(product) / outputs)
        r = splat(values[factors + b])
        for i in range(0, outputs, LANES):
            before, u = load(values, row + i), load(values, out + i)
            g = before * load_first(params, scale + i, outputs - i)
            store(values, out + i, before * u)
            store(values, row + i, r * (g - mean - u * slope))


@called
def concatenated_relu(values, z, z_stride, y, y_stride, batch, outputs):
    """CReLU, y = [relu(z), relu(-z)].

    Args:
        values: flat array.
        z: index of the outputs.
        z_stride: floats from one example to the next.
        y: index of the result.
        y_stride: floats from one example to the next.
        batch: B.
        outputs: O.
    """
    values, zero = pointer(values), splat(0.0)
    for b in range(batch):
        row, out = z + b * z_stride, y + b * y_stride
        for i in range(0, outputs, LANES):
            value, lanes = load(values, row + i), outputs - i
            store_first(values, out + i, relu(value), lanes)
            store_first(values, out + outputs + i, relu(zero - value), lanes)


@called
def concatenated_relu_backward(values, y, gradients, y_stride, d, d_stride, batch, outputs):
    """The gradient through `concatenated_relu`, from that with respect to its 2 O values.

    Args:
        values: flat array.
        y: index of the values.
        gradients: index of the gradients with respect to them.
        y_stride: floats from one example to the next, of both.
        d: index of the result.
        d_stride: floats from one example to the next.
        batch: B.
        outputs: O.
    """
    values, zero = pointer(values), splat(0.0)
    for b in range(batch):
        for i in range(0, outputs, LANES):
            above, lanes = b * y_stride + i, outputs - i
            below = above + outputs
            one = where_positive(
                load_first(values, y + above, lanes), load_first(values, gradients + above, lanes), zero
            )
            two = where_positive(
                load_first(values, y + below, lanes), load_first(values, gradients + below, lanes), zero
            )
            store(values, d + b * d_stride + i, one - two)


@called
def times_mask(values, x, mask, y, stride, batch, width):
    """Multiplies by a mask of dropout, y = x * mask.

    Args:
        values: flat array.
        x: index of what is multiplied.
        mask: index of the mask, `[B, width]` without padding, and 7 more floats.
        y: index of the result, may be x.
        stride: floats from one example to the next, of x and y.
        batch: B.
        width: of a row.
    """
    values = pointer(values)
    for b in range(batch):
        for i in range(0, width, LANES):
            at = b * stride + i
            store(values, y + at, load(values, x + at) * load(values, mask + b * width + i))
