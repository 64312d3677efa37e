"""Loss, error and features of members over all examples of their task."""

from __future__ import annotations

import numpy as np
from fastplast_kernels.compilation import called, compiled
from fastplast_kernels.dropout.cpu import Stream
from fastplast_kernels.mlp_step.loss import softmax_cross_entropy
from fastplast_kernels.mlp_step.step import INPUTS, OUTPUTS, D, Y, forward, gather, stride
from fastplast_kernels.workers import flush_denormals, restore_denormals, take

BLOCK = 64  # examples at a time: their activations stay in the second-level cache
WHOLE = Stream(np.int64(0), np.int64(0), np.int64(0))  # nothing is dropped


@called
def _keep_features(network, values, features, starts, member, first, examples, batch):
    """Copies the activations of hidden layers to `[M, N, O]` blocks of a flat array."""
    for i in range(network.layers.shape[0] - 1):
        width, y = network.layers[i + 1, INPUTS], network.layers[i, Y]
        for b in range(batch):
            to, start = starts[i] + ((member * examples) + first + b) * width, y + b * stride(width)
            features[to : to + width] = values[start : start + width]


@compiled
def evaluate_members(network, arena, examples, loss, error, features, starts, counter, scratch):
    """Evaluates the members that no other thread takes: `loss` and `error` `[M]`, features where `starts` says."""
    control = flush_denormals()
    top = network.layers[network.layers.shape[0] - 1]
    count = examples.rows.shape[1]
    positions = np.empty(BLOCK, np.int64)
    member = take(counter)
    while member < examples.rows.shape[0]:
        total, wrong = 0.0, 0
        for first in range(0, count, BLOCK):
            positions[:] = -1
            for b in range(min(BLOCK, count - first)):
                positions[b] = first + b
            batch = gather(examples, member, positions, scratch)
            values = scratch.values
            forward(network, arena.params, member * arena.size, values, batch, WHOLE)
            lost, errors = softmax_cross_entropy(
                values, top[Y], stride(top[OUTPUTS]), scratch.labels, values, top[D], batch, top[OUTPUTS], 1.0
            )
            total += lost
            wrong += errors
            if features.shape[0] > 0:
                _keep_features(network, values, features, starts, member, first, count, batch)
        loss[member] = total / count
        error[member] = wrong / count
        member = take(counter)
    restore_denormals(control)
