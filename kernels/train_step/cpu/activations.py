"""Activation functions, each with its derivative from the value of the function, on rows of pixels of a group.

An activation is a number in ``constants.CODES``, a vector of it and of its derivative here; CReLU gives two channels
for one.
"""

from __future__ import annotations

from fastplast_kernels.compilation import called, inlined
from fastplast_kernels.constants import CODES, TANH
from fastplast_kernels.train_step.cpu.simd import (
    LANES,
    absolute,
    fma,
    load,
    splat,
    store,
    times_power_of_two,
    where_positive,
)
from fastplast_kernels.train_step.cpu.tiles import GROUP

_RELU, _LEAKY_RELU, _TANH, CRELU = (CODES[name] for name in ("relu", "leaky_relu", "tanh", "crelu"))
_X11, _X9, _X7, _X5, _X3 = TANH


@inlined
def exp(x):
    """Exponential function with a relative error below 2e-7 on [-87, 88]; outside, the value at the nearer end.

    x = n ln 2 + r with |r| <= ln(2) / 2; e^r by a minimax polynomial, n goes to the exponent. NaN stays NaN.
    """
    x = where_positive(x - splat(88.0), splat(88.0), x)
    x = where_positive(splat(-87.0) - x, splat(-87.0), x)
    rounder = fma(x, splat(1.4426950408889634), splat(12582912.0))  # 1.5 * 2**23: only an integer fits below it
    n = rounder - splat(12582912.0)
    r = fma(n, splat(-0.693359375), x)
    r = fma(n, splat(2.1219444170128554e-4), r)
    p = fma(r, splat(0.0013813142431899905), splat(0.008369418792426586))
    p = fma(r, p, splat(0.04166845604777336))
    p = fma(r, p, splat(0.16666515171527863))
    p = fma(r, p, splat(0.4999999403953552))
    return times_power_of_two(fma(r * r, p, r + splat(1.0)), rounder)


@inlined
def tanh(x):
    """Hyperbolic tangent within 2 units of the last place: an odd minimax polynomial near 0, else by `exp`."""
    size = absolute(x)
    large = splat(1.0) - splat(2.0) / (exp(size + size) + splat(1.0))
    large = where_positive(x, large, splat(0.0) - large)
    z = x * x
    p = fma(z, splat(_X11), splat(_X9))
    p = fma(z, p, splat(_X7))
    p = fma(z, p, splat(_X5))
    p = fma(z, p, splat(_X3))
    return where_positive(splat(0.6) - size, fma(x * z, p, x), large)


@inlined
def relu(x):
    """Zero where x < 0; NaN stays NaN."""
    return where_positive(splat(0.0) - x, splat(0.0), x)


@inlined
def leaky_relu(x, slope):
    """Slope times x where x is not > 0."""
    return where_positive(x, x, slope * x)


@called
def activate(code, slope, z, start, y, at, pixels, pixel, channels):
    """Writes the activations of pixels.

    Args:
        code: of the activation.
        slope: of ``leaky_relu``.
        z: flat array of the values before.
        start: index of the first.
        y: flat array of the result.
        at: index of the first.
        pixels: how many.
        pixel: floats from one to the next, of both.
        channels: of z; of y twice as many with CReLU.
    """
    length, zero = channels * GROUP, splat(0.0)
    for p in range(0, pixels * pixel, pixel):
        for k in range(p, p + length, LANES):
            x = load(z, start + k)
            if code == _RELU:
                x = relu(x)
            elif code == _LEAKY_RELU:
                x = leaky_relu(x, splat(slope))
            elif code == _TANH:
                x = tanh(x)
            elif code == CRELU:
                store(y, at + length + k, relu(zero - x))
                x = relu(x)
            store(y, at + k, x)


@called
def times_derivative(code, slope, gradients, start, y, at, pixels, pixel, channels):
    """Puts gradients with respect to z in place of activations, from the gradients with respect to these.

    Args:
        code: of the activation.
        slope: of ``leaky_relu``.
        gradients: flat array.
        start: index of the first.
        y: flat array of the activations, and of the result.
        at: index of the first.
        pixels: how many.
        pixel: floats from one to the next, of both.
        channels: of z; with CReLU the result takes the first half.
    """
    length, zero = channels * GROUP, splat(0.0)
    for p in range(0, pixels * pixel, pixel):
        for k in range(p, p + length, LANES):
            d, h = load(gradients, start + k), load(y, at + k)
            if code == _RELU:
                d = where_positive(h, d, zero)
            elif code == _LEAKY_RELU:
                d = where_positive(h, d, splat(slope) * d)
            elif code == _TANH:
                d = (splat(1.0) - h * h) * d
            elif code == CRELU:
                below = where_positive(load(y, at + length + k), load(gradients, start + length + k), zero)
                d = where_positive(h, d, zero) - below
            store(y, at + k, d)
