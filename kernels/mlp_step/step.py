"""The training step of one member, and the loop that gives members to threads.

A member stays with its thread for all steps of a call, so its parameters and moments stay in the caches of one core.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from fastplast_kernels.compilation import called, compiled, merged
from fastplast_kernels.constants import CODES
from fastplast_kernels.dropout.cpu import Stream, fill_mask
from fastplast_kernels.mlp_step.activations import activate, times_derivative
from fastplast_kernels.mlp_step.dense import build_dense_update, dense_backward_input, dense_forward
from fastplast_kernels.mlp_step.loss import softmax_cross_entropy
from fastplast_kernels.mlp_step.modifications import (
    concatenated_relu,
    concatenated_relu_backward,
    standardise,
    standardise_backward,
    times_mask,
)
from fastplast_kernels.mlp_step.rules import (
    STRENGTH,
    WEIGHT_DECAY,
    adam,
    adam_coefficients,
    decay_coefficients,
    sgd,
    sgd_coefficients,
)
from fastplast_kernels.wasserstein.cpu import rank_target
from fastplast_kernels.workers import flush_denormals, restore_denormals, take

# Columns of `Network.layers`. X and Y are where a layer's inputs and activations lie in `Scratch.values`, Z where its
# outputs before the activation do, D and G where the gradients with respect to Z and Y do. Only with CReLU are Z and Y,
# D and G two places. SCALE and SHIFT are the parameters of layer normalisation or -1, STANDARD and FACTOR what it keeps
# for the way back. MASK is where the mask of dropout lies, NUMBER that of the hidden layer in the masks' streams.
INPUTS, OUTPUTS, WEIGHT, BIAS, ACTIVATION, X, Y, D, Z, G, SCALE, SHIFT, STANDARD, FACTOR, MASK, NUMBER = range(16)
# Columns of `Network.factors`: slope of the activation, c of the pull, rate of dropout.
SLOPE, PULL, DROPOUT = range(3)

STRIDE = 16  # activations of an example start at multiples of this many floats: 64 bytes, a cache line
SNAPSHOT_INTERVAL = 256  # steps between copies of a member's state; see `_train_member`

_DONE, _BAD_LOSS, _BAD_UPDATE = range(3)
_CRELU = CODES["crelu"]


class Network(NamedTuple):
    """Layers of a member, input to output: `[L, 16]` int64 and `[L, 3]` float64."""

    layers: np.ndarray
    factors: np.ndarray


class Arena(NamedTuple):
    """All members' parameters, moments and anchors, flat; `size` floats for each member."""

    params: np.ndarray
    m: np.ndarray
    v: np.ndarray
    anchor: np.ndarray
    size: int


class Examples(NamedTuple):
    """A task's tables; images are bytes or floats, the other one is empty, as are absent pixel permutations."""

    images: np.ndarray
    float_images: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    pixels: np.ndarray
    scale: np.ndarray
    shift: np.ndarray


class Run(NamedTuple):
    """What is done, and what comes of it.

    Order is `[M, S, B]`, hyper `[M, 7]`, keys of dropout `[M, 2]`, sums `[M, 4]`, the others `[M]`.
    """

    order: np.ndarray
    hyper: np.ndarray
    ranked: np.ndarray
    keys: np.ndarray
    steps: np.ndarray
    diverged: np.ndarray
    sums: np.ndarray
    decoupled: bool


class Scratch(NamedTuple):
    """One thread's memory."""

    values: np.ndarray  # activations and their gradients
    line: np.ndarray  # one input before the permutation
    labels: np.ndarray  # of the minibatch
    coefficients: np.ndarray  # of the update rule
    one: np.ndarray  # the number 1
    target: np.ndarray  # ranked targets of one weight matrix
    sorting: np.ndarray  # int32, for `rank_target`
    snapshot: np.ndarray  # `[3, P]`


@called
def stride(width):
    """Floats from one example's activations to the next."""
    return (width + STRIDE - 1) // STRIDE * STRIDE


@called
def gather(examples, member, positions, scratch):
    """Copies the inputs and labels of some examples; returns how many, as -1 ends them."""
    width = examples.scale.shape[0]
    permuted = examples.pixels.shape[0] > 0
    for b in range(positions.shape[0]):
        if positions[b] < 0:
            return b
        row = examples.rows[member, positions[b]]
        scratch.labels[b] = examples.labels[member, positions[b]]
        line = scratch.line if permuted else scratch.values[b * stride(width) : b * stride(width) + width]
        if examples.images.shape[0] > 0:
            for i in range(width):
                line[i] = np.float32(examples.images[row, i]) * examples.scale[i] + examples.shift[i]
        else:
            for i in range(width):
                line[i] = examples.float_images[row, i] * examples.scale[i] + examples.shift[i]
        if permuted:
            for i in range(width):
                scratch.values[b * stride(width) + i] = line[examples.pixels[member, i]]
    return positions.shape[0]


@called
def forward(network, params, row, values, batch, stream):
    """Activations of all layers, the last one's being the logits; ``stream`` is that of the masks of dropout."""
    for i in range(network.layers.shape[0]):
        layer = network.layers[i]
        inputs, outputs, z = layer[INPUTS], layer[OUTPUTS], layer[Z]
        dense_forward(
            params, row + layer[WEIGHT], row + layer[BIAS], values, layer[X], stride(inputs),
            values, z, stride(outputs), batch, inputs, outputs,
        )  # fmt: skip
        if layer[SCALE] >= 0:
            scale, shift = row + layer[SCALE], row + layer[SHIFT]
            standardise(
                values, z, stride(outputs), layer[STANDARD], layer[FACTOR], params, scale, shift, batch, outputs
            )
        if layer[ACTIVATION] == _CRELU:
            concatenated_relu(values, z, stride(outputs), layer[Y], stride(2 * outputs), batch, outputs)
        else:
            activate(layer[ACTIVATION], network.factors[i, SLOPE], values, z, batch * stride(outputs))
        if network.factors[i, DROPOUT] > 0.0:
            above = network.layers[i + 1]
            width, rate, zero = above[INPUTS], network.factors[i, DROPOUT], np.int64(0)
            fill_mask(stream, layer[NUMBER], rate, values, layer[MASK], zero, batch * width)
            times_mask(values, layer[Y], layer[MASK], above[X], stride(width), batch, width)


@called
def backward_input(network, i, params, row, values, batch):
    """Gradient with respect to what layer i - 1 gives its activation, from that with respect to Z of layer i."""
    layer, below = network.layers[i], network.layers[i - 1]
    inputs, outputs = layer[INPUTS], below[OUTPUTS]
    dense_backward_input(
        params, row + layer[WEIGHT], values, layer[D], stride(layer[OUTPUTS]),
        values, below[G], stride(inputs), batch, inputs, layer[OUTPUTS],
    )  # fmt: skip
    if network.factors[i - 1, DROPOUT] > 0.0:
        times_mask(values, below[G], below[MASK], below[G], stride(inputs), batch, inputs)
    if below[ACTIVATION] == _CRELU:
        concatenated_relu_backward(
            values, below[Y], below[G], stride(inputs), below[D], stride(outputs), batch, outputs
        )
    else:
        slope = network.factors[i - 1, SLOPE]
        times_derivative(below[ACTIVATION], slope, values, below[Y], values, below[D], batch * stride(inputs))


@called
def _save(arena, member, snapshot):
    first = member * arena.size
    for i in range(arena.size):
        snapshot[0, i], snapshot[1, i], snapshot[2, i] = arena.params[first + i], arena.m[first + i], arena.v[first + i]


@called
def _restore(arena, member, snapshot):
    first = member * arena.size
    for i in range(arena.size):
        arena.params[first + i], arena.m[first + i], arena.v[first + i] = snapshot[0, i], snapshot[1, i], snapshot[2, i]


def _build_vector_update(update: Callable) -> Callable:
    @merged
    def update_vector(arena, at, scratch, x, x_stride, batch, count):
        """Updates numbers of one per output, whose gradients are sums over the examples of values from x on.

        They are a weight matrix [1, O] whose inputs are those values, and whose own gradient is 1. With literals in the
        call the update would be compiled once more.
        """
        zero, single = np.int64(0), np.int64(1)
        return update(
            arena.params, arena.m, arena.v, at, arena.params, at, scratch.coefficients, np.float32(0.0),
            scratch.values, x, x_stride, scratch.one, zero, zero, batch, count, single,
        )  # fmt: skip

    return update_vector


def _build_layer_update(update: Callable) -> Callable:
    update_vector = _build_vector_update(update)

    @merged
    def update_layer(network, i, arena, row, run, member, scratch, scale, batch):
        """Updates weights and bias of a layer whose D is filled; returns the sums of |change| and of its squares."""
        layer = network.layers[i]
        inputs, outputs, d_stride = layer[INPUTS], layer[OUTPUTS], stride(layer[OUTPUTS])
        weight, values, c = row + layer[WEIGHT], scratch.values, scratch.coefficients
        strength = run.hyper[member, STRENGTH]
        anchor, target = arena.anchor, weight
        if strength == 0.0:
            anchor = arena.params
        elif run.ranked[member]:
            count = inputs * outputs
            quantiles = arena.anchor[weight : weight + count]
            rank_target(arena.params[weight : weight + count], quantiles, scratch.target[:count], scratch.sorting)
            anchor, target = scratch.target, 0
        pull = np.float32(2.0 * strength * network.factors[i, PULL] * scale)
        l1, l2 = update(
            arena.params, arena.m, arena.v, weight, anchor, target, c, pull,
            values, layer[X], stride(inputs), values, layer[D], d_stride, batch, inputs, outputs,
        )  # fmt: skip
        bias_l1, bias_l2 = update_vector(arena, row + layer[BIAS], scratch, layer[D], d_stride, batch, outputs)
        return l1 + bias_l1, l2 + bias_l2

    return update_layer


def _build_norm_update(update: Callable) -> Callable:
    update_vector = _build_vector_update(update)

    @called
    def update_norm(network, i, arena, row, scratch, batch):
        """Takes D of a normalised layer through the normalisation, and updates its parameters; sums as above."""
        layer = network.layers[i]
        outputs, scale, shift = layer[OUTPUTS], row + layer[SCALE], row + layer[SHIFT]
        width = stride(outputs)
        l1, l2 = update_vector(arena, shift, scratch, layer[D], width, batch, outputs)
        standardise_backward(
            scratch.values, layer[D], width, layer[STANDARD], layer[FACTOR], arena.params, scale, batch, outputs
        )
        scale_l1, scale_l2 = update_vector(arena, scale, scratch, layer[STANDARD], width, batch, outputs)
        return l1 + scale_l1, l2 + scale_l2

    return update_norm


def build_trainer(rule: Callable, coefficients: Callable) -> Callable:
    """The loop over members and steps with one optimiser.

    Args:
        rule: from `rules`.
        coefficients: of the rule.

    Returns:
        A function for kernels.
    """
    plain_update, regularised_update = (build_dense_update(rule, regularised) for regularised in (False, True))
    plain, regularised = _build_layer_update(plain_update), _build_layer_update(regularised_update)
    norm = _build_norm_update(regularised_update)  # without decay the same, and not worth compiling both

    @called
    def step(network, arena, examples, run, member, s, number, scratch):
        """One update of one member.

        Returns:
            Status, batch loss, misclassified fraction, sum of |change|, sum of its squares. Where the loss is not
            finite nothing has been changed; where the update is not, everything has.
        """
        row, last = member * arena.size, network.layers.shape[0] - 1
        batch = gather(examples, member, run.order[member, s], scratch)
        stream = Stream(run.keys[member, 0], run.keys[member, 1], number - 1)
        forward(network, arena.params, row, scratch.values, batch, stream)
        hyper = run.hyper[member]
        scale = coefficients(hyper, number, scratch.coefficients)
        decay_coefficients(hyper, run.decoupled, scale, scratch.coefficients)
        top = network.layers[last]
        loss, errors = softmax_cross_entropy(
            scratch.values,
            top[Y],
            stride(top[OUTPUTS]),
            scratch.labels,
            scratch.values,
            top[D],
            batch,
            top[OUTPUTS],
            scale,
        )
        loss /= batch
        if not math.isfinite(loss):
            return _BAD_LOSS, 0.0, 0.0, 0.0, 0.0
        l1, l2 = 0.0, 0.0
        for i in range(last, -1, -1):
            if network.layers[i, SCALE] >= 0:
                sums = norm(network, i, arena, row, scratch, batch)
                l1 += sums[0]
                l2 += sums[1]
            if i > 0:
                backward_input(network, i, arena.params, row, scratch.values, batch)
            if hyper[STRENGTH] != 0.0 or hyper[WEIGHT_DECAY] != 0.0:
                sums = regularised(network, i, arena, row, run, member, scratch, scale, batch)
            else:
                sums = plain(network, i, arena, row, run, member, scratch, scale, batch)
            l1 += sums[0]
            l2 += sums[1]
        return _DONE if math.isfinite(l1) else _BAD_UPDATE, loss, errors / batch, l1, l2

    @merged
    def train_member(network, arena, examples, run, member, count, scratch):
        """All steps of one member, or those before the one that diverges.

        Whether an update is finite is known only when it is done, and then its inputs are gone. So the state is copied
        every now and then, and a bad update is undone by doing the steps since the copy once more, which gives the same
        bits. A member diverges once; the copies cost 0.2 percent.
        """
        start = run.steps[member]
        saved = 0
        _save(arena, member, scratch.snapshot)
        for s in range(run.order.shape[1]):
            if s == saved + SNAPSHOT_INTERVAL:
                saved = s
                _save(arena, member, scratch.snapshot)
            status, loss, error, l1, l2 = step(network, arena, examples, run, member, s, start + s + 1, scratch)
            if status == _BAD_UPDATE:
                _restore(arena, member, scratch.snapshot)
                for again in range(saved, s):
                    step(network, arena, examples, run, member, again, start + again + 1, scratch)
            if status != _DONE:
                run.diverged[member] = start + s
                return
            run.steps[member] += 1
            run.sums[member, 0] += loss
            run.sums[member, 1] += error
            run.sums[member, 2] += l1 / count
            run.sums[member, 3] += math.sqrt(l2)

    @merged
    def train_members(network, arena, examples, run, count, counter, scratch):
        control = flush_denormals()
        member = take(counter)
        while member < run.order.shape[0]:
            if run.diverged[member] < 0:
                train_member(network, arena, examples, run, member, count, scratch)
            member = take(counter)
        restore_denormals(control)

    return train_members


_train_adam = build_trainer(adam, adam_coefficients)
_train_sgd = build_trainer(sgd, sgd_coefficients)


@compiled
def train_adam(network, arena, examples, run, count, counter, scratch):
    """Trains the members that no other thread takes, with Adam; `count` is the number of true parameters."""
    _train_adam(network, arena, examples, run, count, counter, scratch)


@compiled
def train_sgd(network, arena, examples, run, count, counter, scratch):
    """Trains the members that no other thread takes, with gradient descent; `arena.v` is `arena.m`."""
    _train_sgd(network, arena, examples, run, count, counter, scratch)
