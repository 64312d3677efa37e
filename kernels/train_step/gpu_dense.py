"""Tiles of dense layers in the passes forward and backward of `gpu`, with CReLU and dropout where switches say so.

Of dropout the values in memory are those that the layer above sees, times the mask; a mask is made again where it is
needed. CReLU gives two values for one: values are twice as wide as gradients with respect to what it is given.
"""

from __future__ import annotations

import triton
import triton.language as tl
from fastplast_kernels.constants import CODES
from fastplast_kernels.dropout.gpu import dropout_mask
from fastplast_kernels.train_step.gpu_parts import activate, gathered, times_derivative

_RELU, _CRELU = tl.constexpr(CODES["relu"]), tl.constexpr(CODES["crelu"])

# Columns of the table of modifications, int64 [L + convolutions, 7]: in a row of values, index of the outputs before
# normalisation (-1 without) and of their means and factors; in a row of parameters, index of scale and shift; of
# dropout, the rate times 2^32, the number of the hidden layer, and the bits of the float32 factor 1 / (1 - rate). Those
# of convolutions among the first L rows say that there is nothing: what modifies them is no matter of dense layers. In
# their own rows the outputs are those of the product, whether normalised or not.
EXTRA_COLUMNS = 7


@triton.jit
def narrow(width, code, CRELU: tl.constexpr):
    """Outputs of a layer of so many values and that activation."""
    if CRELU:
        width = width // (1 + (code == _CRELU).to(tl.int32))
    return width


@triton.jit
def of_one(code, CRELU: tl.constexpr):
    """The activation of one of the values of an output."""
    if CRELU:
        code = tl.where(code == _CRELU, _RELU, code)
    return code


@triton.jit
def kept_of(extra_ptr):
    """The factor of what dropout keeps."""
    return tl.load(extra_ptr + 6).to(tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def factors_of(extra_ptr, stream_ptr, update, place):
    """The mask of dropout at these places of a layer's values."""
    threshold, number = tl.load(extra_ptr + 4), tl.load(extra_ptr + 5)
    return dropout_mask(stream_ptr, update, number, threshold, kept_of(extra_ptr), place)


@triton.jit
def store_activations(
    output_ptr, z, b, n, valid, stored, outputs, code, slope, extra_ptr, stream_ptr, update,
    CRELU: tl.constexpr, DROPOUT: tl.constexpr,
):  # fmt: skip
    """Stores f(z), of dropout times its mask: 0 where not valid.

    Args:
        output_ptr: of the layer's values.
        z: outputs `[BM, BN]`.
        b: examples `[BM]`.
        n: outputs `[BN]`.
        valid: whether there is such an example `[BM]`.
        stored: whether there is such a place `[BM]`.
        outputs: O.
        code: of the activation.
        slope: of the activation.
        extra_ptr: row of the layer in the table of modifications.
        stream_ptr: row of the member in the table of streams.
        update: of this call.
        CRELU: whether the activation may be.
        DROPOUT: whether there may be.
    """
    one = of_one(code, CRELU)
    h = activate(z, one, slope)
    width = outputs
    if CRELU:
        width = outputs * (1 + (code == _CRELU).to(tl.int32))
    place = b[:, None] * width + n[None, :]
    if DROPOUT:
        h *= factors_of(extra_ptr, stream_ptr, update, place)
    h = tl.where(valid[:, None], h, 0.0)
    tl.store(output_ptr + b[:, None] * width + n[None, :], h, mask=stored[:, None] & (n < outputs)[None, :])
    if CRELU and code == _CRELU:
        place += outputs
        h = activate(-z, one, slope)
        if DROPOUT:
            h *= factors_of(extra_ptr, stream_ptr, update, place)
        tl.store(output_ptr + place, tl.where(valid[:, None], h, 0.0), mask=stored[:, None] & (n < outputs)[None, :])


@triton.jit
def before_activation(g, value_ptr, place, mask, code, slope, extra_ptr, stream_ptr, update, DROPOUT: tl.constexpr):
    """Gradient with respect to what the activation is given, from that with respect to values at these places."""
    h = tl.load(value_ptr + place, mask=mask, other=0.0)
    if DROPOUT:
        g *= factors_of(extra_ptr, stream_ptr, update, place)
        h /= kept_of(extra_ptr)
    return times_derivative(g, h, code, slope)


@triton.jit
def forward_tile(
    weight_ptr, bias_ptr, input_ptr, output_ptr, values_ptr, images_ptr, image, pixels_ptr, scale_ptr, shift_ptr,
    b, valid, stored, first_output, inputs, outputs, code, slope, extra_ptr, stream_ptr, update,
    NORM: tl.constexpr, CRELU: tl.constexpr, DROPOUT: tl.constexpr,
    GATHER: tl.constexpr, PERMUTED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Values h = f(x W' + b) `[BM, BN]` of examples b, see `store_activations`; x W' + b before normalisation."""
    n = first_output + tl.arange(0, BN)
    z = tl.zeros([BM, BN], tl.float32)
    for start in range(0, inputs, BK):
        k = start + tl.arange(0, BK)
        inside = k < inputs
        mask = valid[:, None] & inside[None, :]
        if GATHER:
            pixel = k
            if PERMUTED:
                pixel = tl.load(pixels_ptr + k, mask=inside, other=0)
            scale = tl.load(scale_ptr + pixel, mask=inside, other=0.0)
            shift = tl.load(shift_ptr + pixel, mask=inside, other=0.0)
            x = gathered(images_ptr, image[:, None], inputs, pixel[None, :], mask, scale[None, :], shift[None, :])
        else:
            x = tl.load(input_ptr + b[:, None] * inputs + k[None, :], mask=mask, other=0.0)
        within = (n < outputs)[:, None] & inside[None, :]
        w = tl.load(weight_ptr + n[:, None] * inputs + k[None, :], mask=within, other=0.0)
        z = tl.dot(x, tl.trans(w), z, input_precision=PRECISION)
    z += tl.load(bias_ptr + n, mask=n < outputs, other=0.0)[None, :]
    if NORM and tl.load(extra_ptr) >= 0:
        place = tl.load(extra_ptr) + b[:, None] * outputs + n[None, :]
        tl.store(values_ptr + place, tl.where(valid[:, None], z, 0.0), mask=stored[:, None] & (n < outputs)[None, :])
    else:
        store_activations(
            output_ptr, z, b, n, valid, stored, outputs, code, slope, extra_ptr, stream_ptr, update, CRELU, DROPOUT
        )


@triton.jit
def product(
    weight_ptr, delta_ptr, b, i, inputs, outputs, BATCH: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """D W `[BM, BN]` of examples b `[BM]` and inputs i `[BN]`."""
    g = tl.zeros([BM, BN], tl.float32)
    for start in range(0, outputs, BK):
        o = start + tl.arange(0, BK)
        d = tl.load(
            delta_ptr + b[:, None] * outputs + o[None, :],
            mask=(b < BATCH)[:, None] & (o < outputs)[None, :],
            other=0.0,
        )
        within = (o < outputs)[:, None] & (i < inputs)[None, :]
        w = tl.load(weight_ptr + o[:, None] * inputs + i[None, :], mask=within, other=0.0)
        g = tl.dot(d, w, g, input_precision=PRECISION)
    return g


@triton.jit
def backward_tile(
    weight_ptr, delta_ptr, value_ptr, below_ptr, first_example, first_input, inputs, outputs, code, slope,
    extra_ptr, stream_ptr, update, CRELU: tl.constexpr, DROPOUT: tl.constexpr,
    BATCH: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """(D W) f'(h) `[BM, BN]` for the layer below, whose values h and activation are given, as are its modifications."""
    b = first_example + tl.arange(0, BM)
    i = first_input + tl.arange(0, BN)
    g = product(weight_ptr, delta_ptr, b, i, inputs, outputs, BATCH, BM, BN, BK, PRECISION)
    width, one = narrow(inputs, code, CRELU), of_one(code, CRELU)
    mask = (b < BATCH)[:, None] & (i < width)[None, :]
    place = b[:, None] * inputs + i[None, :]
    d = before_activation(g, value_ptr, place, mask, one, slope, extra_ptr, stream_ptr, update, DROPOUT)
    if CRELU and code == _CRELU:
        g = product(weight_ptr, delta_ptr, b, width + i, inputs, outputs, BATCH, BM, BN, BK, PRECISION)
        place += width
        d -= before_activation(g, value_ptr, place, mask, one, slope, extra_ptr, stream_ptr, update, DROPOUT)
    tl.store(below_ptr + b[:, None] * width + i[None, :], d, mask=mask)
