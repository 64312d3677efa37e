"""Optimisers, as rules for one vector of weights.

A rule takes the gradient g, the weights w (after decoupled decay), the moments, the coefficients of the step and, for
coefficients that are not those of the step, where the weights are: row i and column o of a matrix. It gives new weights
and moments. Its coefficients are formed in float64 once a step and rounded once, in the columns of
``optimisers``. The gradient comes multiplied by a scale that the rule chooses, at no cost: it is a factor of the loss.
Coefficients are those for the scaled gradient, and `RATE` is negative.
"""

from __future__ import annotations

import math

from fastplast_kernels.compilation import called, inlined, merged
from fastplast_kernels.optimisers import DECAY, EPSILON, KEEP, NEW1, OLD1, OLD2, RATE, Hyperparameters
from fastplast_kernels.train_step.cpu.simd import fma, load, maximum, splat, sqrt

# Columns of the hyperparameters of members, float64 [M, 7].
LEARNING_RATE, BETA1, BETA2, EPSILON_COLUMN, _MOMENTUM, WEIGHT_DECAY, STRENGTH = map(
    Hyperparameters._fields.index,
    ("learning_rate", "beta1", "beta2", "epsilon", "momentum", "weight_decay", "strength"),
)


@inlined
def _adam(g, w, m, v, c, rate, epsilon):
    m = fma(c[NEW1], g, c[OLD1] * m)
    v = fma(g, g, c[OLD2] * v)
    return fma(rate, m / (sqrt(v) + epsilon), w), m, v


@inlined
def adam(g, w, m, v, c, moved, i, o):
    """Adam (Kingma, Ba 2015), with the bias corrections moved into the step size and epsilon."""
    return _adam(g, w, m, v, c, c[RATE], c[EPSILON])


@inlined
def adam_by_age(g, w, m, v, c, moved, i, o):
    """The same for weights that count updates of their own; EPSILON is minus that without root."""
    of_column, of_row, values = moved.outputs + o, moved.inputs + i, moved.values
    rate = maximum(load(values, of_column), splat(values[of_row]))
    root = maximum(load(values, of_column + moved.roots_of_outputs), splat(values[of_row + moved.roots_of_inputs]))
    return _adam(g, w, m, v, c, rate * root, c[EPSILON] * root)


@inlined
def adam_by_column(g, w, m, v, c, moved, i, o):
    """The same where all rows are the member's: rate and epsilon of column o are complete."""
    rate, epsilon = (
        load(moved.values, moved.outputs + o),
        load(moved.values, moved.outputs + moved.roots_of_outputs + o),
    )
    return _adam(g, w, m, v, c, rate, epsilon)


@called
def _adam_coefficients(hyper, step, c):
    """Coefficients of update number ``step`` >= 1.

    With g scaled by s = sqrt(1 - beta2), v = beta2 v + g^2 takes one product less.

    Returns:
        s.
    """
    beta1, beta2 = hyper[BETA1], hyper[BETA2]
    scale = math.sqrt(1.0 - beta2)
    root = math.sqrt(1.0 - beta2**step)
    c[OLD1] = beta1
    c[NEW1] = (1.0 - beta1) / scale
    c[OLD2] = beta2
    c[RATE] = -hyper[LEARNING_RATE] / (1.0 - beta1**step) * root
    c[EPSILON] = hyper[EPSILON_COLUMN] * root
    return scale


@inlined
def sgd(g, w, m, v, c, moved, i, o):
    """Gradient descent with the momentum of PyTorch: m = momentum m + g. It has no v: whoever calls passes m for it."""
    m = fma(c[OLD1], m, g)
    return fma(c[RATE], m, w), m, m


@called
def _sgd_coefficients(hyper, step, c):
    """Coefficients of any update.

    Returns:
        1.
    """
    c[OLD1] = hyper[_MOMENTUM]
    c[RATE] = -hyper[LEARNING_RATE]
    return 1.0


@merged
def coefficients(momentum_only, hyper, step, c):
    """Coefficients of an update; returns the scale of the gradient."""
    return _sgd_coefficients(hyper, step, c) if momentum_only else _adam_coefficients(hyper, step, c)


@called
def decay_coefficients(hyper, decoupled, scale, c):
    """Coefficients of weight decay: w shrinks by learning rate times decay, or decay * w joins the scaled gradient."""
    decay = hyper[WEIGHT_DECAY]
    c[KEEP] = 1.0 - hyper[LEARNING_RATE] * decay if decoupled else 1.0
    c[DECAY] = 0.0 if decoupled else decay * scale
