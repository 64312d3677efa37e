"""What the kernels of `gpu` are made of: activations, the loss, a gradient, an update; see `gpu_dense` for the rest."""

from __future__ import annotations

import triton
import triton.language as tl
from fastplast_kernels import optimisers
from fastplast_kernels.constants import CODES, TANH
from fastplast_kernels.wasserstein.gpu import insert, layer_row, pull

_RELU, _LEAKY_RELU, _TANH = (tl.constexpr(CODES[name]) for name in ("relu", "leaky_relu", "tanh"))
_X11, _X9, _X7, _X5, _X3 = map(tl.constexpr, TANH)

# Columns of the table of layers, int64 [L, 6]: inputs, outputs, indices of weight and bias in a row of parameters,
# index of the outputs in a row of values, code of the activation. Beside it float32 [L, 2]: slope, factor of the pull.
_COLUMNS = tl.constexpr(6)

# Columns of the coefficients of a member and update, float32 [S, M, 10]; see `optimisers`.
_OLD1, _NEW1, _OLD2 = tl.constexpr(optimisers.OLD1), tl.constexpr(optimisers.NEW1), tl.constexpr(optimisers.OLD2)
_NEW2, _RATE, _ROOT = tl.constexpr(optimisers.NEW2), tl.constexpr(optimisers.RATE), tl.constexpr(optimisers.ROOT)
_EPSILON, _PULL = tl.constexpr(optimisers.EPSILON), tl.constexpr(optimisers.PULL)
_KEEP, _DECAY = tl.constexpr(optimisers.KEEP), tl.constexpr(optimisers.DECAY)

# What weights are pulled to: nothing, zero, or a target in memory.
NO_PULL, PULL_TO_ZERO, PULL_TO_TARGET = range(3)
_PULL_TO_TARGET = tl.constexpr(PULL_TO_TARGET)


@triton.jit
def layer_of(layers_ptr, factors_ptr, layer, ALIGNED: tl.constexpr):
    """A row of the table of layers; ALIGNED: inputs and weight are multiples of 4."""
    layers_ptr += _COLUMNS * layer
    inputs = tl.load(layers_ptr).to(tl.int32)
    weight = tl.load(layers_ptr + 2)
    if ALIGNED:
        inputs = tl.multiple_of(inputs, 4)
        weight = tl.multiple_of(weight, 4)
    outputs = tl.load(layers_ptr + 1).to(tl.int32)
    bias, output = tl.load(layers_ptr + 3), tl.load(layers_ptr + 4)
    slope, factor = tl.load(factors_ptr + 2 * layer), tl.load(factors_ptr + 2 * layer + 1)
    return inputs, outputs, weight, bias, output, tl.load(layers_ptr + 5), slope, factor


@triton.jit
def inputs_of(layers_ptr, layer):
    """Index in a row of values of what enters a layer above the first."""
    return tl.load(layers_ptr + _COLUMNS * (layer - 1) + 4)


@triton.jit
def tanh(x):
    """Hyperbolic tangent within a few units of the last place: an odd minimax polynomial near 0, else by exp."""
    size = tl.abs(x)
    large = 1.0 - 2.0 / (tl.exp(2.0 * size) + 1.0)
    large = tl.where(x < 0, -large, large)
    z = x * x
    p = z * _X11 + _X9
    p = z * p + _X7
    p = z * p + _X5
    p = z * p + _X3
    return tl.where(size < 0.6, x * z * p + x, large)


@triton.jit
def activate(z, code, slope):
    """The activation of that code; NaN stays NaN."""
    if code == _RELU:
        z = tl.where(z < 0, 0.0, z)
    elif code == _LEAKY_RELU:
        z = tl.where(z > 0, z, slope * z)
    elif code == _TANH:
        z = tanh(z)
    return z


@triton.jit
def times_derivative(d, h, code, slope):
    """Gradient d f'(z), from h = f(z)."""
    if code == _RELU:
        d = tl.where(h > 0, d, 0.0)
    elif code == _LEAKY_RELU:
        d = tl.where(h > 0, d, slope * d)
    elif code == _TANH:
        d = d * (1.0 - h * h)
    return d


@triton.jit
def gathered(images_ptr, image, inputs, pixel, mask, scale, shift):
    """Inputs from images: image * scale + shift, 0 where masked. Everything has the shape of the result, or spreads."""
    x = tl.load(images_ptr + image * inputs + pixel, mask=mask, other=0).to(tl.float32)
    return tl.where(mask, x * scale + shift, 0.0)


@triton.jit
def softmax_cross_entropy(
    logits_ptr, delta_ptr, rows_ptr, labels_ptr, order_ptr, chosen_ptr, classes,
    BATCH: tl.constexpr, BM: tl.constexpr, CLASSES: tl.constexpr,
):  # fmt: skip
    """Stores D = (softmax - onehot) / B and which images were chosen.

    Returns:
        Sum of the losses, number of examples whose largest logit, the first among equals, is not at the label, and
        number of examples.
    """
    count = 0
    for start in range(0, BATCH, BM):
        b = start + tl.arange(0, BM)
        count += tl.sum((tl.load(order_ptr + b, mask=b < BATCH, other=-1) >= 0).to(tl.int32), 0)
    c = tl.arange(0, CLASSES)
    loss, errors = 0.0, 0
    for start in range(0, BATCH, BM):
        b = start + tl.arange(0, BM)
        example = tl.load(order_ptr + b, mask=b < BATCH, other=-1)
        valid = example >= 0
        label = tl.load(labels_ptr + example, mask=valid, other=0).to(tl.int32)
        tl.store(chosen_ptr + b, tl.load(rows_ptr + example, mask=valid, other=0), mask=b < BATCH)
        place = b[:, None] * classes + c[None, :]
        mask = valid[:, None] & (c < classes)[None, :]
        z = tl.load(logits_ptr + place, mask=mask, other=-float("inf"))
        top = tl.where(valid, tl.max(z, 1), 0.0)
        e = tl.where(mask, tl.exp(z - top[:, None]), 0.0)
        total = tl.where(valid, tl.sum(e, 1), 1.0)
        is_label = c[None, :] == label[:, None]
        at_label = tl.sum(tl.where(is_label & mask, z, 0.0), 1)
        # A NaN that the maximum passed over is in the total.
        loss += tl.sum(tl.where(valid, tl.log(total) + (top - at_label), 0.0), 0)
        first = tl.min(tl.where(mask & (z == top[:, None]), c[None, :], CLASSES), 1)
        errors += tl.sum((valid & (first != label)).to(tl.int32), 0)
        d = (e / total[:, None] - is_label.to(tl.float32)) / count.to(tl.float32)
        tl.store(delta_ptr + place, tl.where(mask, d, 0.0), mask=(b < BATCH)[:, None] & (c < classes)[None, :])
    return loss, errors, count


@triton.jit
def weight_gradient(
    value_ptr, delta_ptr, images_ptr, chosen_ptr, pixels_ptr, scale_ptr, shift_ptr, o, i, inputs, outputs,
    GATHER: tl.constexpr, PERMUTED: tl.constexpr, BATCH: tl.constexpr, BO: tl.constexpr, BI: tl.constexpr,
):  # fmt: skip
    """D' h `[BO, BI]` and sum_b D `[BO]`, one example after the other, in registers."""
    inside = i < inputs
    if GATHER:
        pixel = i
        if PERMUTED:
            pixel = tl.load(pixels_ptr + i, mask=inside, other=0)
        scale = tl.load(scale_ptr + pixel, mask=inside, other=0.0)
        shift = tl.load(shift_ptr + pixel, mask=inside, other=0.0)
    g = tl.zeros([BO, BI], tl.float32)
    sums = tl.zeros([BO], tl.float32)
    for b in range(0, BATCH):
        d = tl.load(delta_ptr + b * outputs + o, mask=o < outputs, other=0.0)
        if GATHER:
            x = gathered(images_ptr, tl.load(chosen_ptr + b), inputs, pixel, inside, scale, shift)
        else:
            x = tl.load(value_ptr + b * inputs + i, mask=inside, other=0.0)
        g = tl.fma(tl.broadcast_to(d[:, None], [BO, BI]), tl.broadcast_to(x[None, :], [BO, BI]), g)
        sums += d
    return g, sums


@triton.jit
def step(w, g, m, v, coefficients_ptr, SGD: tl.constexpr):
    """New w, m and v by the formulas of ``update.reference``, division and root rounded to nearest."""
    g = g + tl.load(coefficients_ptr + _DECAY) * w
    w = w * tl.load(coefficients_ptr + _KEEP)
    if SGD:
        m = tl.load(coefficients_ptr + _OLD1) * m + g
        w = w - tl.load(coefficients_ptr + _RATE) * m
    else:
        m = m + tl.load(coefficients_ptr + _NEW1) * (g - m)
        v = tl.load(coefficients_ptr + _OLD2) * v + tl.load(coefficients_ptr + _NEW2) * (g * g)
        denominator = tl.div_rn(tl.sqrt_rn(v), tl.load(coefficients_ptr + _ROOT)) + tl.load(coefficients_ptr + _EPSILON)
        w = w - tl.load(coefficients_ptr + _RATE) * tl.div_rn(m, denominator)
    return w, m, v


@triton.jit
def update_vector(g, there, mask, params_ptr, m_ptr, v_ptr, coefficients_ptr, SGD: tl.constexpr):
    """Updates parameters at `there` from their gradients; sums of |change| and of its squares."""
    b = tl.load(params_ptr + there, mask=mask, other=0.0)
    m = tl.load(m_ptr + there, mask=mask, other=0.0)
    v = m
    if not SGD:
        v = tl.load(v_ptr + there, mask=mask, other=0.0)
    new, m, v = step(b, g, m, v, coefficients_ptr, SGD)
    tl.store(params_ptr + there, new, mask=mask)
    tl.store(m_ptr + there, m, mask=mask)
    if not SGD:
        tl.store(v_ptr + there, v, mask=mask)
    change = tl.where(mask, new - b, 0.0).to(tl.float64)
    return tl.sum(tl.abs(change), 0), tl.sum(change * change, 0)


@triton.jit
def update_tile(
    g, bias_g, o, i, with_bias, inputs, outputs, weight, bias, factor, layer, member,
    params_ptr, m_ptr, v_ptr, q_ptr, coefficients_ptr, partial_ptr,
    ranked_ptr, rows_ptr, map_ptr, count_ptr, slab_ptr, spill_ptr, spill_bucket_ptr, spill_count_ptr,
    params_stride, partials, num_layers, member_buckets,
    SGD: tl.constexpr, PULL: tl.constexpr, INSERT: tl.constexpr, BO: tl.constexpr, BI: tl.constexpr,
    CAPACITY: tl.constexpr, NUM_CELLS: tl.constexpr, SHIFT: tl.constexpr,
):  # fmt: skip
    """Weights o x i and, if asked, biases o of a layer become new ones, and the norms of the change are stored.

    `g` is the gradient of the loss `[BO, BI]`, `bias_g` that of the biases `[BO]`, `o` `[BO]` and `i` `[BI]` are
    outputs and inputs; `coefficients_ptr` is the member's and update's, `partial_ptr` the member's and tile's. From
    `inputs` to `factor` it is what `layer_of` gives; the other arguments are in the table in `gpu`.
    """
    inside = (o < outputs)[:, None] & (i < inputs)[None, :]
    index = o[:, None] * inputs + i[None, :]
    here = member * params_stride + weight + index
    w = tl.load(params_ptr + here, mask=inside, other=0.0)
    m = tl.load(m_ptr + here, mask=inside, other=0.0)
    v = m
    if not SGD:
        v = tl.load(v_ptr + here, mask=inside, other=0.0)
    if PULL > 0:
        q = tl.zeros([BO, BI], tl.float32)
        if PULL == _PULL_TO_TARGET:
            q = tl.load(q_ptr + here, mask=inside, other=0.0)
        pulled, _ = pull(w, q, tl.load(coefficients_ptr + _PULL) * factor)
        g += pulled
    new, m, v = step(w, g, m, v, coefficients_ptr, SGD)
    tl.store(params_ptr + here, new, mask=inside)
    tl.store(m_ptr + here, m, mask=inside)
    if not SGD:
        tl.store(v_ptr + here, v, mask=inside)
    change = tl.where(inside, new - w, 0.0).to(tl.float64)
    ones = tl.sum(tl.sum(tl.abs(change), 1), 0)
    squares = tl.sum(tl.sum(change * change, 1), 0)
    if with_bias:
        there = member * params_stride + bias + o
        bias_ones, bias_squares = update_vector(
            bias_g, there, o < outputs, params_ptr, m_ptr, v_ptr, coefficients_ptr, SGD
        )
        ones += bias_ones
        squares += bias_squares
    tl.store(partial_ptr, ones)
    tl.store(partial_ptr + partials, squares)
    if not INSERT:
        return
    if tl.load(ranked_ptr + member) != 0:
        start = member * params_stride + weight
        num_buckets, bucket, row = layer_row(rows_ptr, layer, member, num_layers, member_buckets)
        insert(
            new, index, inside, map_ptr + row * (NUM_CELLS + 1), count_ptr + bucket, slab_ptr + bucket * CAPACITY,
            spill_ptr + start, spill_bucket_ptr + start, spill_count_ptr + row, num_buckets, CAPACITY, SHIFT,
        )  # fmt: skip
