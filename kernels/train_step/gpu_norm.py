"""Layer normalisation in the kernels of `gpu`, there and back, and the update of its parameters.

Of a normalised layer a member's values hold also its outputs z `[B, O]`, and after all of these means, then after all
of these factors r `[B]`. Where z lies, the gradients hold E, those with respect to s u + t with u = (z - mean) r.
"""

from __future__ import annotations

import triton
import triton.language as tl
from fastplast_kernels.train_step.gpu_dense import EXTRA_COLUMNS, store_activations
from fastplast_kernels.train_step.gpu_parts import layer_of, update_vector
from fastplast_kernels.train_step.layers import NORM_EPSILON

_EXTRAS, _EPSILON = tl.constexpr(EXTRA_COLUMNS), tl.constexpr(NORM_EPSILON)


@triton.jit
def gradients_at(extra_ptr, output, NORM: tl.constexpr):
    """Where the gradients with respect to what a layer's activation is given lie: E, or D at its outputs."""
    if NORM:
        standard = tl.load(extra_ptr)
        output = tl.where(standard >= 0, standard, output)
    return output


@triton.jit
def normalise(
    params_ptr, values_ptr, order_ptr, layers_ptr, factors_ptr, extras_ptr, layer, first_example, stream_ptr, update,
    CRELU: tl.constexpr, DROPOUT: tl.constexpr, BATCH: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Values f(s u + t) of BM examples from a layer's outputs z; keeps mean and r. Nothing if it is not normalised.

    `params_ptr` and `values_ptr` are the member's, `order_ptr` is its minibatch, `stream_ptr` its row of the streams;
    the tables are those of all layers. BN outputs at a time.
    """
    extra_ptr = extras_ptr + _EXTRAS * layer
    if tl.load(extra_ptr) >= 0:
        _, outputs, _, _, output, code, slope, _ = layer_of(layers_ptr, factors_ptr, layer, False)
        z_ptr, moments_ptr = values_ptr + tl.load(extra_ptr), values_ptr + tl.load(extra_ptr + 1)
        scale_ptr, shift_ptr = params_ptr + tl.load(extra_ptr + 2), params_ptr + tl.load(extra_ptr + 3)
        b = first_example + tl.arange(0, BM)
        stored = b < BATCH
        valid = tl.load(order_ptr + b, mask=stored, other=-1) >= 0
        total = tl.zeros([BM, BN], tl.float32)
        for start in range(0, outputs, BN):
            n = start + tl.arange(0, BN)
            mask = stored[:, None] & (n < outputs)[None, :]
            total += tl.load(z_ptr + b[:, None] * outputs + n[None, :], mask=mask, other=0.0)
        mean = tl.sum(total, 1) / outputs
        squares = tl.zeros([BM, BN], tl.float32)
        for start in range(0, outputs, BN):
            n = start + tl.arange(0, BN)
            mask = stored[:, None] & (n < outputs)[None, :]
            z = tl.load(z_ptr + b[:, None] * outputs + n[None, :], mask=mask, other=0.0)
            centred = tl.where(mask, z - mean[:, None], 0.0)
            squares += centred * centred
        r = 1.0 / tl.sqrt_rn(tl.sum(squares, 1) / outputs + _EPSILON)
        tl.store(moments_ptr + b, mean, mask=stored)
        tl.store(moments_ptr + BATCH + b, r, mask=stored)
        for start in range(0, outputs, BN):
            n = start + tl.arange(0, BN)
            mask = stored[:, None] & (n < outputs)[None, :]
            z = tl.load(z_ptr + b[:, None] * outputs + n[None, :], mask=mask, other=0.0)
            scale = tl.load(scale_ptr + n, mask=n < outputs, other=0.0)
            shift = tl.load(shift_ptr + n, mask=n < outputs, other=0.0)
            z = (z - mean[:, None]) * r[:, None] * scale[None, :] + shift[None, :]
            store_activations(
                values_ptr + output, z, b, n, valid, stored, outputs, code, slope, extra_ptr, stream_ptr, update,
                CRELU, DROPOUT,
            )  # fmt: skip


@triton.jit
def normalise_backward(
    params_ptr, values_ptr, deltas_ptr, layers_ptr, factors_ptr, extras_ptr, layer, first_example,
    BATCH: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """D = r (G - mean(G) - u mean(G u)) with G = E s, of BM examples; arguments as of `normalise`."""
    extra_ptr = extras_ptr + _EXTRAS * layer
    if tl.load(extra_ptr) >= 0:
        _, outputs, _, _, output, _, _, _ = layer_of(layers_ptr, factors_ptr, layer, False)
        z_ptr, e_ptr = values_ptr + tl.load(extra_ptr), deltas_ptr + tl.load(extra_ptr)
        moments_ptr, scale_ptr = values_ptr + tl.load(extra_ptr + 1), params_ptr + tl.load(extra_ptr + 2)
        b = first_example + tl.arange(0, BM)
        mean = tl.load(moments_ptr + b, mask=b < BATCH, other=0.0)[:, None]
        r = tl.load(moments_ptr + BATCH + b, mask=b < BATCH, other=0.0)[:, None]
        sums, products = tl.zeros([BM, BN], tl.float32), tl.zeros([BM, BN], tl.float32)
        for start in range(0, outputs, BN):
            n = start + tl.arange(0, BN)
            place, mask = b[:, None] * outputs + n[None, :], (b < BATCH)[:, None] & (n < outputs)[None, :]
            scale = tl.load(scale_ptr + n, mask=n < outputs, other=0.0)[None, :]
            g = tl.load(e_ptr + place, mask=mask, other=0.0) * scale
            sums += g
            products += g * ((tl.load(z_ptr + place, mask=mask, other=0.0) - mean) * r)
        level, slope = (tl.sum(sums, 1) / outputs)[:, None], (tl.sum(products, 1) / outputs)[:, None]
        for start in range(0, outputs, BN):
            n = start + tl.arange(0, BN)
            place, mask = b[:, None] * outputs + n[None, :], (b < BATCH)[:, None] & (n < outputs)[None, :]
            scale = tl.load(scale_ptr + n, mask=n < outputs, other=0.0)[None, :]
            g = tl.load(e_ptr + place, mask=mask, other=0.0) * scale
            u = (tl.load(z_ptr + place, mask=mask, other=0.0) - mean) * r
            tl.store(deltas_ptr + output + place, r * (g - level - u * slope), mask=mask)


@triton.jit
def update_scales(
    of_scale, of_shift, start, o, inside, params_ptr, m_ptr, v_ptr, coefficients_ptr, extra_ptr, SGD: tl.constexpr
):  # fmt: skip
    """Scales and shifts o of a layer become new ones by their gradients; sums of |change| and of its squares.

    The member's parameters begin at `start`.
    """
    ones, squares = update_vector(
        of_scale, start + tl.load(extra_ptr + 2) + o, inside, params_ptr, m_ptr, v_ptr, coefficients_ptr, SGD
    )
    more, more_squares = update_vector(
        of_shift, start + tl.load(extra_ptr + 3) + o, inside, params_ptr, m_ptr, v_ptr, coefficients_ptr, SGD
    )
    return ones + more, squares + more_squares


@triton.jit
def update_norm(
    o, outputs, params_ptr, m_ptr, v_ptr, values_ptr, deltas_ptr, coefficients_ptr, partial_ptr, extra_ptr, partials,
    SGD: tl.constexpr, BATCH: tl.constexpr, BO: tl.constexpr,
):  # fmt: skip
    """Scales and shifts o `[BO]` of a layer become new ones, and the norms of the change are stored.

    Their gradients are sum_b E u and sum_b E. Pointers are the member's, and the tile's and the layer's.
    """
    inside = o < outputs
    standard, moments_ptr = tl.load(extra_ptr), values_ptr + tl.load(extra_ptr + 1)
    of_scale, of_shift = tl.zeros([BO], tl.float32), tl.zeros([BO], tl.float32)
    for b in range(0, BATCH):
        e = tl.load(deltas_ptr + standard + b * outputs + o, mask=inside, other=0.0)
        z = tl.load(values_ptr + standard + b * outputs + o, mask=inside, other=0.0)
        of_scale += e * ((z - tl.load(moments_ptr + b)) * tl.load(moments_ptr + BATCH + b))
        of_shift += e
    ones, squares = update_scales(
        of_scale, of_shift, 0, o, inside, params_ptr, m_ptr, v_ptr, coefficients_ptr, extra_ptr, SGD
    )
    tl.store(partial_ptr, ones)
    tl.store(partial_ptr + partials, squares)
