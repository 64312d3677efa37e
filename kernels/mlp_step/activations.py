"""Activation functions of a vector, and their derivatives from the value of the function.

An activation is a number in ``constants.CODES`` and a line in each of the last two functions; that of CReLU, which
gives two values for one, is in `modifications`.
"""

from __future__ import annotations

from fastplast_kernels.compilation import called, inlined
from fastplast_kernels.constants import CODES, TANH
from fastplast_kernels.mlp_step.simd import (
    LANES,
    absolute,
    fma,
    load,
    pointer,
    splat,
    store,
    times_power_of_two,
    where_positive,
)

_RELU, _LEAKY_RELU, _TANH = CODES["relu"], CODES["leaky_relu"], CODES["tanh"]
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
def activate(code, slope, values, start, length):
    """Replaces values by their activations; ``length`` is rounded up to whole vectors."""
    values = pointer(values)
    if code == _RELU:
        for i in range(start, start + length, LANES):
            store(values, i, relu(load(values, i)))
    elif code == _LEAKY_RELU:
        for i in range(start, start + length, LANES):
            store(values, i, leaky_relu(load(values, i), splat(slope)))
    elif code == _TANH:
        for i in range(start, start + length, LANES):
            store(values, i, tanh(load(values, i)))


@called
def times_derivative(code, slope, activations, start, gradients, at, length):
    """Multiplies gradients by the derivative of the activation, given the activations."""
    activations, gradients = pointer(activations), pointer(gradients)
    if code == _RELU:
        for i in range(0, length, LANES):
            store(gradients, at + i, where_positive(load(activations, start + i), load(gradients, at + i), splat(0.0)))
    elif code == _LEAKY_RELU:
        for i in range(0, length, LANES):
            g = load(gradients, at + i)
            store(gradients, at + i, where_positive(load(activations, start + i), g, splat(slope) * g))
    elif code == _TANH:
        for i in range(0, length, LANES):
            h = load(activations, start + i)
            store(gradients, at + i, (splat(1.0) - h * h) * load(gradients, at + i))
