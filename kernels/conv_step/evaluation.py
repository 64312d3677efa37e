"""Loss, error and features of convolutional members over all examples of their task."""

from __future__ import annotations

import numpy as np
from fastplast_kernels.compilation import called, compiled
from fastplast_kernels.conv_step.conv import GROUP
from fastplast_kernels.conv_step.passes import layer_of, see
from fastplast_kernels.mlp_step.evaluation import WHOLE
from fastplast_kernels.mlp_step.loss import softmax_cross_entropy
from fastplast_kernels.mlp_step.step import INPUTS, OUTPUTS, D, Y, stride
from fastplast_kernels.workers import flush_denormals, restore_denormals, take

BLOCK = GROUP  # examples at a time: their images stay in the second-level cache


@called
def _keep_means(network, images, features, starts, member, first, examples, batch):
    """Writes the means over pixels of the convolutions' channels to `[M, N, O]` blocks of a flat array."""
    for i in range(network.convolutions.shape[0]):
        layer = layer_of(network, i, np.int64(0))
        area = layer.out_height * layer.out_width
        for b in range(batch):
            to = starts[i] + (member * examples + first + b) * layer.above
            for o in range(layer.above):
                total = np.float32(0.0)
                for p in range(area):
                    total += images[layer.y + p * layer.y_pixel + o * GROUP + b]
                features[to + o] = total / np.float32(area)


@called
def _keep_features(network, values, features, starts, member, first, examples, batch):
    """Copies the activations of hidden dense layers to `[M, N, O]` blocks of a flat array."""
    for i in range(network.dense.layers.shape[0] - 1):
        width, y = network.dense.layers[i + 1, INPUTS], network.dense.layers[i, Y]
        for b in range(batch):
            to = starts[network.convolutions.shape[0] + i] + (member * examples + first + b) * width
            start = y + b * stride(width)
            features[to : to + width] = values[start : start + width]


@compiled
def evaluate_members(network, arena, examples, loss, error, features, starts, counter, scratch):
    """Evaluates the members that no other thread takes: `loss` and `error` `[M]`, features where `starts` says."""
    control = flush_denormals()
    top = network.dense.layers[network.dense.layers.shape[0] - 1]
    count = examples.rows.shape[1]
    positions = np.empty(BLOCK, np.int64)
    member = take(counter)
    while member < examples.rows.shape[0]:
        total, wrong = 0.0, 0
        for first in range(0, count, BLOCK):
            positions[:] = -1
            for b in range(min(BLOCK, count - first)):
                positions[b] = first + b
            batch = see(network, arena, examples, member, positions, WHOLE, scratch)
            values = scratch.values
            lost, errors = softmax_cross_entropy(
                values, top[Y], stride(top[OUTPUTS]), scratch.labels, values, top[D], batch, top[OUTPUTS], 1.0
            )
            total += lost
            wrong += errors
            if features.shape[0] > 0:
                _keep_means(network, scratch.images, features, starts, member, first, count, batch)
                _keep_features(network, values, features, starts, member, first, count, batch)
        loss[member] = total / count
        error[member] = wrong / count
        member = take(counter)
    restore_denormals(control)
