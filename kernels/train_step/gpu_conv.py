"""Convolutions in the training step on a GPU, in Triton: the layers below those of ``train_step.gpu``.

Each is a product of matrices per member whose second factor is never stored (implicit GEMM): the patches of the images
are gathered as they are multiplied. Images lie in memory as the definition flattens them, channels first.

1. `forward_kernel`, one launch per layer, program (outputs x pixels, member): h = f(W U(h) + b), and its maxima.
2. `backward_kernel`, one launch per layer but the first, program (channels x pixels, member): U'(W' D) f'(h). Pixels
   of the input are taken by phases, their places modulo the stride: only taps of the kernel that see them are read.
3. `update_kernel`, one launch for all layers, program (tile of a weight matrix, member): sum D U(h)' over examples and
   pixels in registers, then what ``train_step.gpu`` does with a gradient.

Gradients of weights never reach memory; every sum has an order that follows from the shapes of one member.

Max pooling: a program holds whole windows, and stores of each the largest value h and a byte that says which of its
pixels that is. Values before the pooling never reach memory: f' is known from h, and D lies at the maximum alone, so
that D is stored by windows too and read for a pixel together with the byte. With windows of 2 x 2 that is 5 bytes for
4 pixels where storing all of them would take 16, and finding the maxima again another forward pass.
"""

from __future__ import annotations

import triton
import triton.language as tl
from fastplast_kernels.optimisers import NUM_COEFFICIENTS
from fastplast_kernels.train_step.gpu import MEMBER_COLUMNS, MEMBER_LIMIT, MEMBER_OPEN, MEMBER_POSITION
from fastplast_kernels.train_step.gpu_parts import (
    activate,
    gathered,
    inputs_of,
    layer_of,
    times_derivative,
    update_tile,
)

_MEMBER = tl.constexpr(MEMBER_COLUMNS)
_NUM_COEFFICIENTS = tl.constexpr(NUM_COEFFICIENTS)

# Arguments of the kernels that are not in the table in ``train_step.gpu``:
#   values_ptr, deltas_ptr         outputs and D of a convolution are [B, O, pixels]
#   winners_ptr                    uint8 [M, values]  of pooled layers: the pixel of its window, row by row, of a value
#   geometry_ptr                   int64 [convolutions, 9]  see below
#   KERNEL, STRIDE, POOL           of the layer: rows and columns of kernel, stride, rows and columns of windows, 1 for
#                                  none; in an update, of the layers above the first
#   BN, BP, BK                     outputs or channels, pixels, terms of a sum of a program
#   FIRST_ALIGNED, FIRST_POOL, FIRST_BP  of the first layer, in an update

# Columns of the table of convolutions, int64 [convolutions, 9]: channels, height and width of the input, kernel,
# stride, padding, height and width of the output, before any pooling; index in a row of values of what the kernels here
# make of it, which is what the layer above sees but for layers that `gpu_modifications` has to do with.
GEOMETRY_COLUMNS = 9
_COLUMNS = tl.constexpr(GEOMETRY_COLUMNS)


@triton.jit
def geometry_of(geometry_ptr, layer):
    """A row of the table of convolutions."""
    geometry_ptr += _COLUMNS * layer
    channels, height, width = tl.load(geometry_ptr), tl.load(geometry_ptr + 1), tl.load(geometry_ptr + 2)
    kernel, stride, padding = tl.load(geometry_ptr + 3), tl.load(geometry_ptr + 4), tl.load(geometry_ptr + 5)
    out_height, out_width = tl.load(geometry_ptr + 6), tl.load(geometry_ptr + 7)
    return (
        channels.to(tl.int32), height.to(tl.int32), width.to(tl.int32), kernel.to(tl.int32), stride.to(tl.int32),
        padding.to(tl.int32), out_height.to(tl.int32), out_width.to(tl.int32),
    )  # fmt: skip


@triton.jit
def outputs_at(geometry_ptr, layer):
    """Where a convolution's outputs lie, and the gradients with respect to them."""
    return tl.load(geometry_ptr + _COLUMNS * layer + 8)


@triton.jit
def image_size(geometry_ptr):
    """I, inputs of the first layer."""
    return tl.load(geometry_ptr) * tl.load(geometry_ptr + 1) * tl.load(geometry_ptr + 2)


@triton.jit
def patches(
    values_ptr, images_ptr, pixels_ptr, scale_ptr, shift_ptr, k, inside, image, b, y, x, valid,
    channels, height, width, kernel, FIRST: tl.constexpr, PERMUTED: tl.constexpr,
):  # fmt: skip
    """What weights k `[K]` are multiplied with for pixels `[P]` of the output: U(h) `[K, P]`, 0 on the padding.

    Args:
        values_ptr: `[B, channels, height, width]`, unless FIRST.
        images_ptr: `[R, I]`.
        pixels_ptr: `[I]`, of the member.
        scale_ptr: `[I]`.
        shift_ptr: `[I]`.
        k: index in a row of weights.
        inside: whether there is such a weight.
        image: of each pixel, if FIRST.
        b: example of each pixel.
        y: row of the input, maybe outside, where its patch begins.
        x: column of the input.
        valid: whether there is such a pixel.
        channels: of the input.
        height: of the input.
        width: of the input.
        kernel: rows and columns of a patch.
        FIRST: whether the layer's inputs are images of the dataset.
        PERMUTED: whether pixels are.
    """
    c = k // (kernel * kernel)
    tap = k - c * kernel * kernel
    row = y[None, :] + (tap // kernel)[:, None]
    column = x[None, :] + (tap % kernel)[:, None]
    mask = (row >= 0) & (row < height) & (column >= 0) & (column < width) & inside[:, None] & valid[None, :]
    place = (c[:, None] * height + row) * width + column
    size = channels * height * width
    if FIRST:
        if PERMUTED:
            place = tl.load(pixels_ptr + place, mask=mask, other=0).to(tl.int32)
        scale = tl.load(scale_ptr + place, mask=mask, other=0.0)
        shift = tl.load(shift_ptr + place, mask=mask, other=0.0)
        seen = gathered(images_ptr, image[None, :], size, place, mask, scale, shift)
    else:
        seen = tl.load(values_ptr + b[None, :] * size + place, mask=mask, other=0.0)
    return seen


@triton.jit
def outputs_of(
    params_ptr, values_ptr, images_ptr, pixels_ptr, scale_ptr, shift_ptr, weight, bias, code, slope, n, image, b, y, x,
    valid, inputs, outputs, channels, height, width,
    FIRST: tl.constexpr, PERMUTED: tl.constexpr, KERNEL: tl.constexpr, BN: tl.constexpr, BP: tl.constexpr,
    BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """f(W U(h) + b) `[BN, BP]` of outputs n and pixels whose patches begin at y and x; 0 where there is no pixel."""
    z = tl.zeros([BN, BP], tl.float32)
    for start in range(0, inputs, BK):
        k = start + tl.arange(0, BK)
        inside = k < inputs
        seen = patches(
            values_ptr, images_ptr, pixels_ptr, scale_ptr, shift_ptr, k, inside, image, b, y, x, valid,
            channels, height, width, KERNEL, FIRST, PERMUTED,
        )  # fmt: skip
        within = (n < outputs)[:, None] & inside[None, :]
        w = tl.load(params_ptr + weight + n[:, None] * inputs + k[None, :], mask=within, other=0.0)
        z = tl.dot(w, seen, z, input_precision=PRECISION)
    z += tl.load(params_ptr + bias + n, mask=n < outputs, other=0.0)[:, None]
    return tl.where(valid[None, :], activate(z, code, slope), 0.0)


@triton.jit
def forward_kernel(
    params_ptr, values_ptr, winners_ptr, images_ptr, pixels_ptr, scale_ptr, shift_ptr, rows_ptr, order_ptr, members_ptr,
    layers_ptr, factors_ptr, geometry_ptr, layer, params_stride, values_stride, examples, steps,
    FIRST: tl.constexpr, PERMUTED: tl.constexpr, ALIGNED: tl.constexpr, BATCH: tl.constexpr, KERNEL: tl.constexpr,
    POOL: tl.constexpr, BN: tl.constexpr, BP: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Values h = f(W U(h) + b) of one layer; program (tile of BN outputs and BP pixels of all examples, member).

    With pooling, these are pixels after it, and their values the maxima of windows of POOL x POOL.
    """
    member = tl.program_id(1).to(tl.int64)
    members_ptr += _MEMBER * member
    at = tl.load(members_ptr + MEMBER_POSITION) + tl.load(members_ptr + MEMBER_OPEN)
    if at >= tl.load(members_ptr + MEMBER_LIMIT):
        return
    inputs, outputs, weight, bias, _, code, slope, _ = layer_of(layers_ptr, factors_ptr, layer, ALIGNED)
    output = outputs_at(geometry_ptr, layer)
    channels, height, width, _, stride, padding, out_height, out_width = geometry_of(geometry_ptr, layer)
    params_ptr += member * params_stride
    values_ptr += member * values_stride
    source = 0
    if not FIRST:
        source = inputs_of(layers_ptr, layer)
    columns = out_width // POOL
    area = out_height // POOL * columns
    tiles = tl.cdiv(outputs, BN)
    n = tl.program_id(0) % tiles * BN + tl.arange(0, BN)
    pixel = tl.program_id(0) // tiles * BP + tl.arange(0, BP)
    b = pixel // area
    p = pixel - b * area
    y = p // columns
    x = p - y * columns
    chosen = tl.load(order_ptr + (member * steps + at) * BATCH + b, mask=b < BATCH, other=-1)
    valid = chosen >= 0
    image = tl.load(rows_ptr + member * examples + chosen, mask=valid, other=0)
    pixels_ptr += member * channels * height * width
    if POOL == 1:
        h = outputs_of(
            params_ptr, values_ptr + source, images_ptr, pixels_ptr, scale_ptr, shift_ptr, weight, bias, code, slope,
            n, image, b, y * stride - padding, x * stride - padding, valid, inputs, outputs, channels, height, width,
            FIRST, PERMUTED, KERNEL, BN, BP, BK, PRECISION,
        )  # fmt: skip
    else:
        h = tl.full([BN, BP], -float("inf"), tl.float32)
        winner = tl.zeros([BN, BP], tl.int32)
        for number in range(0, POOL * POOL):
            here = outputs_of(
                params_ptr, values_ptr + source, images_ptr, pixels_ptr, scale_ptr, shift_ptr, weight, bias, code,
                slope, n, image, b, (y * POOL + number // POOL) * stride - padding,
                (x * POOL + number % POOL) * stride - padding, valid, inputs, outputs, channels, height, width,
                FIRST, PERMUTED, KERNEL, BN, BP, BK, PRECISION,
            )  # fmt: skip
            larger = (here > h) | (here != here)  # NaN stays NaN
            winner = tl.where(larger, number, winner)
            h = tl.where(larger, here, h)
    place = (b[None, :] * outputs + n[:, None]) * area + p[None, :]
    stored = (n < outputs)[:, None] & (b < BATCH)[None, :]
    tl.store(values_ptr + output + place, h, mask=stored)
    if POOL > 1:
        tl.store(winners_ptr + member * values_stride + output + place, winner, mask=stored)


@triton.jit
def before_pooling(
    deltas_ptr, winners_ptr, o, b, y, x, valid, outputs, out_height, out_width, POOL: tl.constexpr
):  # fmt: skip
    """D `[O, P]` of outputs o at pixels (y, x) before the pooling: of a window at its maximum, 0 at its other pixels.

    Pointers are the layer's. Pixels that no window holds have none.
    """
    height = out_height // POOL
    width = out_width // POOL
    row = y // POOL
    column = x // POOL
    place = ((b[None, :] * outputs + o[:, None]) * height + row[None, :]) * width + column[None, :]
    mask = (o < outputs)[:, None] & (valid & (row < height) & (column < width))[None, :]
    d = tl.load(deltas_ptr + place, mask=mask, other=0.0)
    winner = tl.load(winners_ptr + place, mask=mask, other=0).to(tl.int32)
    number = (y - row * POOL) * POOL + x - column * POOL
    return tl.where(winner == number[None, :], d, 0.0)


@triton.jit
def backward_kernel(
    params_ptr, values_ptr, winners_ptr, deltas_ptr, members_ptr, layers_ptr, factors_ptr, geometry_ptr, layer,
    params_stride, values_stride,
    BATCH: tl.constexpr, KERNEL: tl.constexpr, STRIDE: tl.constexpr, POOL: tl.constexpr, BN: tl.constexpr,
    BP: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """D of the layer below; program (tile of BN channels and BP pixels of one phase of the input, member)."""
    member = tl.program_id(1).to(tl.int64)
    if tl.load(members_ptr + _MEMBER * member + MEMBER_OPEN) == 0:
        return
    _, outputs, weight, _, _, _, _, _ = layer_of(layers_ptr, factors_ptr, layer, False)
    output = outputs_at(geometry_ptr, layer)
    _, _, _, _, source, code, slope, _ = layer_of(layers_ptr, factors_ptr, layer - 1, False)
    channels, height, width, _, _, padding, out_height, out_width = geometry_of(geometry_ptr, layer)
    params_ptr += member * params_stride + weight
    values_ptr += member * values_stride + source
    deltas_ptr += member * values_stride
    winners_ptr += member * values_stride + output
    phase = tl.program_id(0) % (STRIDE * STRIDE)
    number = tl.program_id(0) // (STRIDE * STRIDE)
    tiles = tl.cdiv(channels, BN)
    c = number % tiles * BN + tl.arange(0, BN)
    pixel = number // tiles * BP + tl.arange(0, BP)
    columns = tl.cdiv(width, STRIDE)
    area = tl.cdiv(height, STRIDE) * columns
    b = pixel // area
    p = pixel - b * area
    y = p // columns * STRIDE + phase // STRIDE
    x = p % columns * STRIDE + phase % STRIDE
    valid = (b < BATCH) & (y < height) & (x < width)
    g = tl.zeros([BN, BP], tl.float32)
    for row in range((phase // STRIDE + padding) % STRIDE, KERNEL, STRIDE):
        above = (y + padding - row) // STRIDE  # exact: the row of the output whose patch has y in this row
        for column in range((phase % STRIDE + padding) % STRIDE, KERNEL, STRIDE):
            beside = (x + padding - column) // STRIDE
            sees = valid & (above >= 0) & (above < out_height) & (beside >= 0) & (beside < out_width)
            for start in range(0, outputs, BK):
                o = start + tl.arange(0, BK)
                if POOL == 1:
                    mask = (o < outputs)[:, None] & sees[None, :]
                    place = ((b[None, :] * outputs + o[:, None]) * out_height + above[None, :]) * out_width
                    d = tl.load(deltas_ptr + output + place + beside[None, :], mask=mask, other=0.0)
                else:
                    d = before_pooling(
                        deltas_ptr + output, winners_ptr, o, b, above, beside, sees, outputs, out_height, out_width,
                        POOL,
                    )  # fmt: skip
                tap = (o[None, :] * channels + c[:, None]) * (KERNEL * KERNEL) + row * KERNEL + column
                w = tl.load(params_ptr + tap, mask=(c < channels)[:, None] & (o < outputs)[None, :], other=0.0)
                g = tl.dot(w, d, g, input_precision=PRECISION)
    place = ((b[None, :] * channels + c[:, None]) * height + y[None, :]) * width + x[None, :]
    mask = (c < channels)[:, None] & valid[None, :]
    h = tl.load(values_ptr + place, mask=mask, other=0.0)
    tl.store(deltas_ptr + source + place, times_derivative(g, h, code, slope), mask=mask)


@triton.jit
def weight_gradient(
    values_ptr, winners_ptr, deltas_ptr, images_ptr, chosen_ptr, pixels_ptr, scale_ptr, shift_ptr, geometry_ptr, layer,
    o, i, inputs, outputs,
    FIRST: tl.constexpr, POOL: tl.constexpr, PERMUTED: tl.constexpr, BATCH: tl.constexpr, BO: tl.constexpr,
    BI: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """Sum of D U(h)' `[BO, BI]` and of D `[BO]` over examples and pixels, in registers, BP terms at a time."""
    channels, height, width, kernel, stride, padding, out_height, out_width = geometry_of(geometry_ptr, layer)
    area = out_height * out_width
    g = tl.zeros([BO, BI], tl.float32)
    sums = tl.zeros([BO], tl.float32)
    for start in range(0, BATCH * area, BP):
        pixel = start + tl.arange(0, BP)
        b = pixel // area
        p = pixel - b * area
        y = p // out_width
        x = p - y * out_width
        valid = b < BATCH
        image = tl.load(chosen_ptr + b, mask=valid, other=0)
        seen = patches(
            values_ptr, images_ptr, pixels_ptr, scale_ptr, shift_ptr, i, i < inputs, image, b,
            y * stride - padding, x * stride - padding, valid, channels, height, width, kernel, FIRST, PERMUTED,
        )  # fmt: skip
        if POOL == 1:
            place = (b[None, :] * outputs + o[:, None]) * area + p[None, :]
            d = tl.load(deltas_ptr + place, mask=(o < outputs)[:, None] & valid[None, :], other=0.0)
        else:
            d = before_pooling(deltas_ptr, winners_ptr, o, b, y, x, valid, outputs, out_height, out_width, POOL)
        g = tl.dot(d, tl.trans(seen), g, input_precision="ieee")
        sums += tl.sum(d, 1)
    return g, sums


@triton.jit
def update_kernel(
    params_ptr, m_ptr, v_ptr, q_ptr, values_ptr, winners_ptr, deltas_ptr, images_ptr, pixels_ptr, scale_ptr, shift_ptr,
    chosen_ptr, coefficients_ptr, members_ptr, partial_ptr, layers_ptr, factors_ptr, geometry_ptr, tiles_ptr,
    ranked_ptr, rows_ptr, map_ptr, count_ptr, slab_ptr, spill_ptr, spill_bucket_ptr, spill_count_ptr,
    params_stride, values_stride, partials, num_members, num_layers, member_buckets,
    SGD: tl.constexpr, PULL: tl.constexpr, INSERT: tl.constexpr, PERMUTED: tl.constexpr, FIRST_ALIGNED: tl.constexpr,
    ALIGNED: tl.constexpr, FIRST_POOL: tl.constexpr, POOL: tl.constexpr, BATCH: tl.constexpr, BO: tl.constexpr,
    BI: tl.constexpr, FIRST_BP: tl.constexpr, BP: tl.constexpr, CAPACITY: tl.constexpr, NUM_CELLS: tl.constexpr,
    SHIFT: tl.constexpr,
):  # fmt: skip
    """One update of weights and biases of all convolutions, in place; program (tile of a layer, member)."""
    member = tl.program_id(1).to(tl.int64)
    members_ptr += _MEMBER * member
    if tl.load(members_ptr + MEMBER_OPEN) == 0:
        return
    tile = tl.program_id(0)
    layer = tl.load(tiles_ptr + 3 * tile)
    first_input = tl.multiple_of(tl.load(tiles_ptr + 3 * tile + 2), BI)
    o = tl.load(tiles_ptr + 3 * tile + 1) + tl.arange(0, BO)
    i = first_input + tl.arange(0, BI)
    values_ptr += member * values_stride
    winners_ptr += member * values_stride
    deltas_ptr += member * values_stride
    chosen_ptr += member * BATCH
    coefficients_ptr += (tl.load(members_ptr + MEMBER_POSITION) * num_members + member) * _NUM_COEFFICIENTS
    partial_ptr += 2 * member * partials + tile
    output = outputs_at(geometry_ptr, layer)
    if layer == 0:
        inputs, outputs, weight, bias, _, _, _, factor = layer_of(layers_ptr, factors_ptr, 0, FIRST_ALIGNED)
        g, bias_g = weight_gradient(
            values_ptr, winners_ptr + output, deltas_ptr + output, images_ptr, chosen_ptr,
            pixels_ptr + member * image_size(geometry_ptr), scale_ptr, shift_ptr, geometry_ptr, 0,
            o, i, inputs, outputs, True, FIRST_POOL, PERMUTED, BATCH, BO, BI, FIRST_BP,
        )  # fmt: skip
        update_tile(
            g, bias_g, o, i, first_input == 0, inputs, outputs, weight, bias, factor, layer, member,
            params_ptr, m_ptr, v_ptr, q_ptr, coefficients_ptr, partial_ptr,
            ranked_ptr, rows_ptr, map_ptr, count_ptr, slab_ptr, spill_ptr, spill_bucket_ptr, spill_count_ptr,
            params_stride, partials, num_layers, member_buckets,
            SGD, PULL, INSERT, BO, BI, CAPACITY, NUM_CELLS, SHIFT,
        )  # fmt: skip
    else:
        inputs, outputs, weight, bias, _, _, _, factor = layer_of(layers_ptr, factors_ptr, layer, ALIGNED)
        g, bias_g = weight_gradient(
            values_ptr + inputs_of(layers_ptr, layer), winners_ptr + output, deltas_ptr + output, values_ptr,
            chosen_ptr, pixels_ptr, scale_ptr, shift_ptr, geometry_ptr, layer,
            o, i, inputs, outputs, False, POOL, False, BATCH, BO, BI, BP,
        )  # fmt: skip
        update_tile(
            g, bias_g, o, i, first_input == 0, inputs, outputs, weight, bias, factor, layer, member,
            params_ptr, m_ptr, v_ptr, q_ptr, coefficients_ptr, partial_ptr,
            ranked_ptr, rows_ptr, map_ptr, count_ptr, slab_ptr, spill_ptr, spill_bucket_ptr, spill_count_ptr,
            params_stride, partials, num_layers, member_buckets,
            SGD, PULL, INSERT, BO, BI, CAPACITY, NUM_CELLS, SHIFT,
        )  # fmt: skip
