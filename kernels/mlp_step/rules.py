"""Optimisers, as rules for one vector of weights.

A rule takes the gradient g, the weights w (after decoupled decay), the moments and the coefficients of the step, and
gives new weights and moments. Its coefficients are formed in float64 once a step and rounded once. The gradient comes
multiplied by a scale that the rule chooses, at no cost: it is a factor of the loss.
"""

from __future__ import annotations

import math

from fastplast_kernels.compilation import called, inlined
from fastplast_kernels.mlp_step.simd import fma, sqrt

# Hyperparameters of a member, in the order of `update.Hyperparameters`.
LEARNING_RATE, BETA1, BETA2, EPSILON, MOMENTUM, WEIGHT_DECAY, STRENGTH = range(7)
# Coefficients of a step: those of the rule, then the factor of decoupled decay and that of coupled decay.
NUM_COEFFICIENTS = 7
KEEP, DECAY = 5, 6


@inlined
def adam(g, w, m, v, c):
    """Adam (Kingma, Ba 2015), with the bias corrections moved into the step size and epsilon."""
    m = fma(c[1], g, c[0] * m)
    v = fma(g, g, c[2] * v)
    return fma(c[3], m / (sqrt(v) + c[4]), w), m, v


@called
def adam_coefficients(hyper, step, c):
    """Coefficients of update number ``step`` >= 1.

    With g scaled by s = sqrt(1 - beta2), v = beta2 v + g^2 takes one product less.

    Returns:
        s.
    """
    beta1, beta2 = hyper[BETA1], hyper[BETA2]
    scale = math.sqrt(1.0 - beta2)
    root = math.sqrt(1.0 - beta2**step)
    c[0] = beta1
    c[1] = (1.0 - beta1) / scale
    c[2] = beta2
    c[3] = -hyper[LEARNING_RATE] / (1.0 - beta1**step) * root
    c[4] = hyper[EPSILON] * root
    return scale


@inlined
def sgd(g, w, m, v, c):
    """Gradient descent with the momentum of PyTorch: m = momentum m + g. It has no v: whoever calls passes m for it."""
    m = fma(c[0], m, g)
    return fma(c[1], m, w), m, m


@called
def sgd_coefficients(hyper, step, c):
    """Coefficients of any update.

    Returns:
        1.
    """
    c[0] = hyper[MOMENTUM]
    c[1] = -hyper[LEARNING_RATE]
    return 1.0


@called
def decay_coefficients(hyper, decoupled, scale, c):
    """Coefficients of weight decay: w shrinks by learning rate times decay, or decay * w joins the scaled gradient."""
    decay = hyper[WEIGHT_DECAY]
    c[KEEP] = 1.0 - hyper[LEARNING_RATE] * decay if decoupled else 1.0
    c[DECAY] = 0.0 if decoupled else decay * scale
