"""What a convolution on a GPU may do beside its product, in Triton: layer normalisation, CReLU, dropout, both ways.

The kernels of `gpu` make of such a layer its outputs z `[B, O, pixels]`, as they are, and take the gradients D with
respect to these. Between them and the layer above stand

1. `forward_kernel`, program (example, member): from z to what the layer above sees, pooling included.
2. `backward_kernel`, program (example, member): from the gradient with respect to that to D.
3. `update_kernel`, program (outputs, member): scales and shifts of the normalisation.

With u = (z - mean(z)) r, mean and variance over channels and pixels of an example, and t = s u + shift of each channel,
E is the gradient with respect to t: it stands in the place of D until its sums over all channels and pixels are known.
Its sums over the pixels of a channel, and those of E u, are kept for each example: their sums over the minibatch are
the gradients of scale and shift. Masks of dropout are of what the layer above sees, and are made again on the way back.
"""

from __future__ import annotations

import triton
import triton.language as tl
from fastplast_kernels.constants import CODES
from fastplast_kernels.dropout.gpu import STREAM_COLUMNS
from fastplast_kernels.optimisers import NUM_COEFFICIENTS
from fastplast_kernels.train_step.gpu import MEMBER_COLUMNS, MEMBER_LIMIT, MEMBER_OPEN, MEMBER_POSITION
from fastplast_kernels.train_step.gpu_conv import geometry_of, outputs_at
from fastplast_kernels.train_step.gpu_dense import EXTRA_COLUMNS, factors_of
from fastplast_kernels.train_step.gpu_norm import update_scales
from fastplast_kernels.train_step.gpu_parts import activate, layer_of, times_derivative
from fastplast_kernels.train_step.layers import NORM_EPSILON

_MEMBER, _STREAMS = tl.constexpr(MEMBER_COLUMNS), tl.constexpr(STREAM_COLUMNS)
_EXTRAS, _EPSILON = tl.constexpr(EXTRA_COLUMNS), tl.constexpr(NORM_EPSILON)
_NUM_COEFFICIENTS = tl.constexpr(NUM_COEFFICIENTS)
_RELU, _CRELU = tl.constexpr(CODES["relu"]), tl.constexpr(CODES["crelu"])


@triton.jit
def scale_of(params_ptr, extra_ptr, o, outputs):
    """Scale `[BO]` of the channels o."""
    return tl.load(params_ptr + tl.load(extra_ptr + 2) + o, mask=o < outputs, other=0.0)


@triton.jit
def channels_of(params_ptr, extra_ptr, o, outputs):
    """Scale and shift `[BO, 1]` of the channels o."""
    shift = tl.load(params_ptr + tl.load(extra_ptr + 3) + o, mask=o < outputs, other=0.0)
    return scale_of(params_ptr, extra_ptr, o, outputs)[:, None], shift[:, None]


@triton.jit
def moments_of(z_ptr, outputs, area, BO: tl.constexpr, BP: tl.constexpr):
    """Mean of an example's outputs, and the factor r = 1 / sqrt(variance + epsilon)."""
    total = tl.zeros([BO, BP], tl.float32)
    for first in range(0, outputs, BO):
        o = first + tl.arange(0, BO)
        for start in range(0, area, BP):
            p = start + tl.arange(0, BP)
            inside = (o < outputs)[:, None] & (p < area)[None, :]
            total += tl.load(z_ptr + o[:, None] * area + p[None, :], mask=inside, other=0.0)
    count = outputs * area
    mean = tl.sum(tl.sum(total, 1), 0) / count
    squares = tl.zeros([BO, BP], tl.float32)
    for first in range(0, outputs, BO):
        o = first + tl.arange(0, BO)
        for start in range(0, area, BP):
            p = start + tl.arange(0, BP)
            inside = (o < outputs)[:, None] & (p < area)[None, :]
            z = tl.load(z_ptr + o[:, None] * area + p[None, :], mask=inside, other=0.0)
            centred = tl.where(inside, z - mean, 0.0)
            squares += centred * centred
    return mean, 1.0 / tl.sqrt_rn(tl.sum(tl.sum(squares, 1), 0) / count + _EPSILON)


@triton.jit
def largest(
    z_ptr, o, y, x, inside, area, width, mean, r, scale, shift, sign, slope,
    NORM: tl.constexpr, CODE: tl.constexpr, POOL: tl.constexpr, BO: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """The largest f(sign t) of windows (y, x) of channels o, and which of their pixels has it, the first of equals."""
    h = tl.full([BO, BP], -float("inf"), tl.float32)
    winner = tl.zeros([BO, BP], tl.int32)
    for number in range(0, POOL * POOL):
        pixel = (y * POOL + number // POOL) * width + x * POOL + number % POOL
        t = tl.load(z_ptr + o[:, None] * area + pixel[None, :], mask=inside, other=0.0)
        if NORM:
            t = (t - mean) * r * scale + shift
        here = activate(sign * t, CODE, slope)
        larger = (here > h) | (here != here)  # NaN stays NaN
        winner = tl.where(larger, number, winner)
        h = tl.where(larger, here, h)
    return h, winner


@triton.jit
def store_seen(
    values_ptr, winners_ptr, h, winner, place, inside, valid, extra_ptr, stream_ptr, update,
    DROPOUT: tl.constexpr, POOL: tl.constexpr,
):  # fmt: skip
    """Stores what the layer above sees, 0 where not valid, and winners of pooling."""
    if DROPOUT:
        h *= factors_of(extra_ptr, stream_ptr, update, place)
    tl.store(values_ptr + place, tl.where(valid, h, 0.0), mask=inside)
    if POOL > 1:
        tl.store(winners_ptr + place, winner, mask=inside)


@triton.jit
def forward_kernel(
    params_ptr, values_ptr, winners_ptr, order_ptr, members_ptr, layers_ptr, factors_ptr, extras_ptr, streams_ptr,
    geometry_ptr, layer, num_layers, params_stride, values_stride, steps,
    NORM: tl.constexpr, CODE: tl.constexpr, DROPOUT: tl.constexpr, POOL: tl.constexpr, BATCH: tl.constexpr,
    BO: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """What the layer above sees of a convolution's outputs; program (example, member).

    NORM, CODE, DROPOUT and POOL are the layer's. BO channels and BP pixels at a time.
    """
    member = tl.program_id(1).to(tl.int64)
    members_ptr += _MEMBER * member
    at = tl.load(members_ptr + MEMBER_POSITION) + tl.load(members_ptr + MEMBER_OPEN)
    if at >= tl.load(members_ptr + MEMBER_LIMIT):
        return
    b = tl.program_id(0)
    _, outputs, _, _, seen, _, slope, _ = layer_of(layers_ptr, factors_ptr, layer, False)
    _, _, _, _, _, _, height, width = geometry_of(geometry_ptr, layer)
    extra_ptr = extras_ptr + _EXTRAS * (num_layers + layer)
    params_ptr += member * params_stride
    values_ptr += member * values_stride
    winners_ptr += member * values_stride + seen
    stream_ptr = streams_ptr + _STREAMS * member
    valid = tl.load(order_ptr + (member * steps + at) * BATCH + b) >= 0
    area, columns = height * width, width // POOL
    pooled = height // POOL * columns
    z_ptr = values_ptr + outputs_at(geometry_ptr, layer) + b * outputs * area
    mean, r = 0.0, 1.0
    if NORM:
        mean, r = moments_of(z_ptr, outputs, area, BO, BP)
        tl.store(values_ptr + tl.load(extra_ptr + 1) + b, mean)
        tl.store(values_ptr + tl.load(extra_ptr + 1) + BATCH + b, r)
    one: tl.constexpr = _RELU if CODE == _CRELU else CODE
    above = outputs
    if CODE == _CRELU:
        above = 2 * outputs
    for first in range(0, outputs, BO):
        o = first + tl.arange(0, BO)
        scale, shift = 1.0, 0.0
        if NORM:
            scale, shift = channels_of(params_ptr, extra_ptr, o, outputs)
        for start in range(0, pooled, BP):
            p = start + tl.arange(0, BP)
            inside = (o < outputs)[:, None] & (p < pooled)[None, :]
            y = p // columns
            x = p - y * columns
            place = (b * above + o[:, None]) * pooled + p[None, :]
            h, winner = largest(
                z_ptr, o, y, x, inside, area, width, mean, r, scale, shift, 1.0, slope, NORM, one, POOL, BO, BP
            )
            store_seen(
                values_ptr + seen, winners_ptr, h, winner, place, inside, valid, extra_ptr, stream_ptr, at,
                DROPOUT, POOL,
            )  # fmt: skip
            if CODE == _CRELU:
                h, winner = largest(
                    z_ptr, o, y, x, inside, area, width, mean, r, scale, shift, -1.0, slope, NORM, one, POOL, BO, BP
                )
                store_seen(
                    values_ptr + seen, winners_ptr, h, winner, place + outputs * pooled, inside, valid, extra_ptr,
                    stream_ptr, at, DROPOUT, POOL,
                )  # fmt: skip


@triton.jit
def gradient_of(
    deltas_ptr, winners_ptr, t, place, mask, number, slope, extra_ptr, stream_ptr, update,
    CODE: tl.constexpr, DROPOUT: tl.constexpr, POOL: tl.constexpr,
):  # fmt: skip
    """The gradient with respect to t, from that with respect to what the layer above sees of f(t) at these places."""
    g = tl.load(deltas_ptr + place, mask=mask, other=0.0)
    if DROPOUT:
        g *= factors_of(extra_ptr, stream_ptr, update, place)
    if POOL > 1:
        winner = tl.load(winners_ptr + place, mask=mask, other=0).to(tl.int32)
        g = tl.where(winner == number, g, 0.0)
    return times_derivative(g, activate(t, CODE, slope), CODE, slope)


@triton.jit
def backward_kernel(
    params_ptr, values_ptr, winners_ptr, deltas_ptr, members_ptr, layers_ptr, factors_ptr, extras_ptr, streams_ptr,
    geometry_ptr, layer, num_layers, params_stride, values_stride,
    NORM: tl.constexpr, CODE: tl.constexpr, DROPOUT: tl.constexpr, POOL: tl.constexpr, BATCH: tl.constexpr,
    BO: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """D of a convolution's outputs, and for each example sums of E u and E of each channel; program (example, member).

    D = r (G - mean(G) - u mean(G u)) with G = s E, or E where nothing is normalised. Of deltas_ptr the gradient with
    respect to what the layer above sees is read.
    """
    member = tl.program_id(1).to(tl.int64)
    members_ptr += _MEMBER * member
    if tl.load(members_ptr + MEMBER_OPEN) == 0:
        return
    at, b = tl.load(members_ptr + MEMBER_POSITION), tl.program_id(0)
    _, outputs, _, _, seen, _, slope, _ = layer_of(layers_ptr, factors_ptr, layer, False)
    _, _, _, _, _, _, height, width = geometry_of(geometry_ptr, layer)
    extra_ptr = extras_ptr + _EXTRAS * (num_layers + layer)
    params_ptr += member * params_stride
    values_ptr += member * values_stride
    deltas_ptr += member * values_stride
    winners_ptr += member * values_stride + seen
    stream_ptr = streams_ptr + _STREAMS * member
    area, rows, columns = height * width, height // POOL, width // POOL
    pooled = rows * columns
    own = outputs_at(geometry_ptr, layer) + b * outputs * area
    mean, r, moments = 0.0, 1.0, tl.load(extra_ptr + 1)
    if NORM:
        mean, r = tl.load(values_ptr + moments + b), tl.load(values_ptr + moments + BATCH + b)
    one: tl.constexpr = _RELU if CODE == _CRELU else CODE
    above = outputs
    if CODE == _CRELU:
        above = 2 * outputs
    level, tilt = tl.zeros([BO], tl.float32), tl.zeros([BO], tl.float32)
    for first in range(0, outputs, BO):
        o = first + tl.arange(0, BO)
        scale, shift = 1.0, 0.0
        if NORM:
            scale, shift = channels_of(params_ptr, extra_ptr, o, outputs)
        sums, products = tl.zeros([BO, BP], tl.float32), tl.zeros([BO, BP], tl.float32)
        for start in range(0, area, BP):
            p = start + tl.arange(0, BP)
            inside = (o < outputs)[:, None] & (p < area)[None, :]
            here = own + o[:, None] * area + p[None, :]
            t = tl.load(values_ptr + here, mask=inside, other=0.0)
            u = t
            if NORM:
                u = (t - mean) * r
                t = u * scale + shift
            y, row = p // width, p // width // POOL
            x = p - y * width
            column = x // POOL
            number = ((y - row * POOL) * POOL + x - column * POOL)[None, :]
            mask = inside & ((row < rows) & (column < columns))[None, :]
            place = (b * above + o[:, None]) * pooled + (row * columns + column)[None, :]
            e = gradient_of(
                deltas_ptr + seen, winners_ptr, t, place, mask, number, slope, extra_ptr, stream_ptr, at,
                one, DROPOUT, POOL,
            )  # fmt: skip
            if CODE == _CRELU:
                e -= gradient_of(
                    deltas_ptr + seen, winners_ptr, -t, place + outputs * pooled, mask, number, slope, extra_ptr,
                    stream_ptr, at, one, DROPOUT, POOL,
                )  # fmt: skip
            tl.store(deltas_ptr + here, e, mask=inside)
            sums += tl.where(inside, e, 0.0)
            products += tl.where(inside, e * u, 0.0)
        if NORM:
            kept_ptr = deltas_ptr + moments + 2 * BATCH + 2 * b * outputs + o
            of_shift, of_scale = tl.sum(sums, 1), tl.sum(products, 1)
            tl.store(kept_ptr, of_scale, mask=o < outputs)
            tl.store(kept_ptr + outputs, of_shift, mask=o < outputs)
            factor = scale_of(params_ptr, extra_ptr, o, outputs)
            level += factor * of_shift
            tilt += factor * of_scale
    if NORM:
        count = outputs * area
        mean_g, mean_gu = tl.sum(level, 0) / count, tl.sum(tilt, 0) / count
        tl.debug_barrier()  # what other threads stored is read
        for first in range(0, outputs, BO):
            o = first + tl.arange(0, BO)
            factor = scale_of(params_ptr, extra_ptr, o, outputs)
            for start in range(0, area, BP):
                p = start + tl.arange(0, BP)
                inside = (o < outputs)[:, None] & (p < area)[None, :]
                here = own + o[:, None] * area + p[None, :]
                u = (tl.load(values_ptr + here, mask=inside, other=0.0) - mean) * r
                e = tl.load(deltas_ptr + here, mask=inside, other=0.0)
                tl.store(deltas_ptr + here, r * (factor[:, None] * e - mean_g - u * mean_gu), mask=inside)


@triton.jit
def update_kernel(
    params_ptr, m_ptr, v_ptr, deltas_ptr, coefficients_ptr, members_ptr, partial_ptr, layers_ptr, factors_ptr,
    extras_ptr, tiles_ptr, first_norm, num_layers, params_stride, values_stride, partials, num_members,
    SGD: tl.constexpr, BATCH: tl.constexpr, BO: tl.constexpr,
):  # fmt: skip
    """One update of scales and shifts of all convolutions, in place; program (BO outputs of a layer, member).

    Their gradients are sums over the minibatch of what `backward_kernel` has kept; first_norm is the
    first of the tiles of this launch.
    """
    member = tl.program_id(1).to(tl.int64)
    members_ptr += _MEMBER * member
    if tl.load(members_ptr + MEMBER_OPEN) == 0:
        return
    tile = first_norm + tl.program_id(0)
    layer = tl.load(tiles_ptr + 3 * tile)
    o = tl.load(tiles_ptr + 3 * tile + 1) + tl.arange(0, BO)
    _, outputs, _, _, _, _, _, _ = layer_of(layers_ptr, factors_ptr, layer, False)
    extra_ptr = extras_ptr + _EXTRAS * (num_layers + layer)
    kept_ptr = deltas_ptr + member * values_stride + tl.load(extra_ptr + 1) + 2 * BATCH + o
    of_scale, of_shift = tl.zeros([BO], tl.float32), tl.zeros([BO], tl.float32)
    for b in range(0, BATCH):
        of_scale += tl.load(kept_ptr + 2 * b * outputs, mask=o < outputs, other=0.0)
        of_shift += tl.load(kept_ptr + (2 * b + 1) * outputs, mask=o < outputs, other=0.0)
    coefficients_ptr += (tl.load(members_ptr + MEMBER_POSITION) * num_members + member) * _NUM_COEFFICIENTS
    ones, squares = update_scales(
        of_scale, of_shift, member * params_stride, o, o < outputs, params_ptr, m_ptr, v_ptr, coefficients_ptr,
        extra_ptr, SGD,
    )  # fmt: skip
    partial_ptr += 2 * member * partials + tile
    tl.store(partial_ptr, ones)
    tl.store(partial_ptr + partials, squares)
