"""Softmax cross-entropy of one minibatch: loss, misclassified examples and gradient."""

from __future__ import annotations

import math

import numpy as np
from fastplast_kernels.compilation import called
from fastplast_kernels.mlp_step.activations import exp
from fastplast_kernels.mlp_step.simd import LANES, first_lanes, load_first, pointer, splat, store_first, sum_lanes


@called
def softmax_cross_entropy(logits, at, stride, labels, gradients, gradients_at, batch, classes, scale):
    """Loss and gradient of the mean cross-entropy of a minibatch.

    Args:
        logits: flat array.
        at: index of the first example's.
        stride: floats from one example to the next, of logits and gradients.
        labels: `[B]` int64.
        gradients: flat array of the result, scale * (softmax - onehot) / B.
        gradients_at: index of the first example's.
        batch: B.
        classes: C.
        scale: of the gradients.

    Returns:
        Sum of the losses, float64, and number of examples whose largest logit, the first among equals, is not at the
        label.
    """
    logits, gradients = pointer(logits), pointer(gradients)
    loss, errors = 0.0, 0
    factor = np.float32(scale / batch)
    for b in range(batch):
        row, out = at + b * stride, gradients_at + b * stride
        best = 0
        for c in range(1, classes):
            if logits[row + c] > logits[row + best]:
                best = c
        top, total = logits[row + best], splat(0.0)
        for c in range(0, classes, LANES):
            lanes = min(LANES, classes - c)
            e = first_lanes(exp(load_first(logits, row + c, lanes) - splat(top)), lanes)
            store_first(gradients, out + c, e, lanes)
            total = total + e
        partition = sum_lanes(total)
        loss += math.log(partition) + (np.float64(top) - np.float64(logits[row + labels[b]]))
        errors += best != labels[b]
        normaliser = splat(np.float32(factor / partition))
        for c in range(0, classes, LANES):
            lanes = min(LANES, classes - c)
            store_first(gradients, out + c, load_first(gradients, out + c, lanes) * normaliser, lanes)
        gradients[out + labels[b]] -= factor
    return loss, errors
