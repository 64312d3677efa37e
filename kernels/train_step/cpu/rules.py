"""Optimisers, as rules for one vector of weights.

A rule takes the gradient g, the weights w (after decoupled decay), the moments and the coefficients of the step, and
gives new weights and moments. Its coefficients are formed in float64 once a step and rounded once, in the columns of
``optimisers``. The gradient comes multiplied by a scale that the rule chooses, at no cost: it is a factor of the loss.
Coefficients are those for the scaled gradient, and `RATE` is negative.
"""

from __future__ import annotations

import math

from fastplast_kernels.compilation import called, inlined
from fastplast_kernels.optimisers import DECAY, EPSILON, KEEP, NEW1, OLD1, OLD2, RATE, Hyperparameters
from fastplast_kernels.train_step.cpu.simd import fma, sqrt

# Columns of the hyperparameters of members, float64 [M, 7].
_LEARNING_RATE, _BETA1, _BETA2, EPSILON_COLUMN, _MOMENTUM, WEIGHT_DECAY, STRENGTH = map(
    Hyperparameters._fields.index,
    ("learning_rate", "beta1", "beta2", "epsilon", "momentum", "weight_decay", "strength"),
)


@inlined
def adam(g, w, m, v, c):
    """Adam (Kingma, Ba 2015), with the bias corrections moved into the step size and epsilon."""
    m = fma(c[NEW1], g, c[OLD1] * m)
    v = fma(g, g, c[OLD2] * v)
    return fma(c[RATE], m / (sqrt(v) + c[EPSILON]), w), m, v


@called
def adam_coefficients(hyper, step, c):
    """Coefficients of update number ``step`` >= 1.

    With g scaled by s = sqrt(1 - beta2), v = beta2 v + g^2 takes one product less.

    Returns:
        s.
    """
    beta1, beta2 = hyper[_BETA1], hyper[_BETA2]
    scale = math.sqrt(1.0 - beta2)
    root = math.sqrt(1.0 - beta2**step)
    c[OLD1] = beta1
    c[NEW1] = (1.0 - beta1) / scale
    c[OLD2] = beta2
    c[RATE] = -hyper[_LEARNING_RATE] / (1.0 - beta1**step) * root
    c[EPSILON] = hyper[EPSILON_COLUMN] * root
    return scale


@inlined
def sgd(g, w, m, v, c):
    """Gradient descent with the momentum of PyTorch: m = momentum m + g. It has no v: whoever calls passes m for it."""
    m = fma(c[OLD1], m, g)
    return fma(c[RATE], m, w), m, m


@called
def sgd_coefficients(hyper, step, c):
    """Coefficients of any update.

    Returns:
        1.
    """
    c[OLD1] = hyper[_MOMENTUM]
    c[RATE] = -hyper[_LEARNING_RATE]
    return 1.0


@called
def decay_coefficients(hyper, decoupled, scale, c):
    """Coefficients of weight decay: w shrinks by learning rate times decay, or decay * w joins the scaled gradient."""
    decay = hyper[WEIGHT_DECAY]
    c[KEEP] = 1.0 - hyper[_LEARNING_RATE] * decay if decoupled else 1.0
    c[DECAY] = 0.0 if decoupled else decay * scale
