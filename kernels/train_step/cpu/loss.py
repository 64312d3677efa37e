"""Softmax cross-entropy of a group of examples: loss, misclassified examples and gradient."""

from __future__ import annotations

import math

import numpy as np
from fastplast_kernels.compilation import called
from fastplast_kernels.train_step.cpu.activations import exp
from fastplast_kernels.train_step.cpu.simd import first_lanes, load, maximum, splat, store
from fastplast_kernels.train_step.cpu.tiles import GROUP


@called
def softmax_cross_entropy(logits, at, classes, labels, first, count, factor, memory):
    """Losses of some examples of a group, and the gradient of their sum in place of the logits.

    Args:
        logits: flat array, `[C, GROUP]` from ``at`` on.
        at: index of the first.
        classes: C.
        labels: int64.
        first: index of the label of the group's first example.
        count: examples of the group; the gradients of the others become zero.
        factor: of the gradient, factor * (softmax - onehot).
        memory: scratch, two vectors.

    Returns:
        Sum of the losses, float64, and number of examples whose largest logit, the first among equals, is not at the
        label.
    """
    loss, errors, end = 0.0, 0, at + classes * GROUP
    top = load(logits, at)
    for c in range(at + GROUP, end, GROUP):
        top = maximum(top, load(logits, c))
    for b in range(count):
        best = at + b
        for c in range(at + GROUP + b, end, GROUP):
            if logits[c] > logits[best]:
                best = c
        label = at + labels[first + b] * GROUP + b
        errors += best != label
        loss += np.float64(logits[best]) - np.float64(logits[label])
    total, rest = splat(0.0), splat(0.0)  # what rounding takes off the sum: beside 1, small terms would all be lost
    for c in range(at, end, GROUP):
        e = exp(load(logits, c) - top)
        store(logits, c, e)
        following = total + e
        part = following - total
        rest = rest + ((total - (following - part)) + (e - part))
        total = following
    total = total + rest
    store(memory, 0, total)
    normaliser = splat(factor) / total
    for c in range(at, end, GROUP):
        store(logits, c, first_lanes(load(logits, c) * normaliser, count))
    for b in range(count):
        loss += math.log(np.float64(memory[b]))
        logits[at + labels[first + b] * GROUP + b] -= factor
    return loss, errors
