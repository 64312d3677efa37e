"""What is done with the gradients of a layer that are there: the update of its parameters, and what else needs them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from fastplast_kernels.compilation import called, merged
from fastplast_kernels.train_step.cpu.births import from_row, of_vectors
from fastplast_kernels.train_step.cpu.inputs import stride
from fastplast_kernels.train_step.cpu.members import ranked_targets
from fastplast_kernels.train_step.cpu.records import CONVOLUTION, PIXELS, PULL, Pointers, inputs_of, layer_of
from fastplast_kernels.train_step.cpu.rules import STRENGTH
from fastplast_kernels.train_step.cpu.simd import pointer
from fastplast_kernels.train_step.cpu.tiles import GROUP
from fastplast_kernels.train_step.cpu.update import Factors, Updates, build_norms, build_storing, build_updates
from fastplast_kernels.train_step.cpu.watching import keep_magnitudes, sum_magnitudes


def _build_products(of_product: Callable) -> Callable:
    @merged
    def products(network, layer, moved, anchor, target, c, pull, batch, scratch):
        """Updates the matrix of a dense layer, from all of its inputs."""
        norms, turned, row, zero = pointer(scratch.norms), pointer(scratch.turned), layer.row, np.int64(0)
        if layer.kind == PIXELS:
            width, inputs = stride(inputs_of(layer)), inputs_of(layer)
            factors = Factors(zero, zero + 1, width, width * GROUP)
            return of_product(
                moved, layer.weight, row, inputs, layer.outputs, anchor, target, c, pull, pointer(scratch.inputs),
                factors, turned, batch, norms, True,
            )  # fmt: skip
        x, area, sums = pointer(scratch.images), layer.height, (0.0, 0.0)
        for channel in range(layer.channels if area > 1 else 1):
            apart, rows = (layer.x_pixel, area) if area > 1 else (zero + GROUP, layer.channels)
            factors = Factors(layer.x + channel * GROUP, apart, zero + 1, network.group)
            start = channel * area
            sums = of_product(
                from_row(moved, start), layer.weight + start * row, row, rows, layer.outputs, anchor,
                target + start * row, c, pull, x, factors, turned, batch, norms, channel == 0,
            )  # fmt: skip
        return sums

    return products


def _build_of_matrix(updates: Updates) -> Callable:
    of_gradient, of_product, of_nonzero = updates
    products = _build_products(of_product)

    @merged
    def of_matrix(network, layer, moved, anchor, target, c, pull, sparse, batch, scratch):
        """Updates a layer's matrix; returns the sums of |change| and of its squares."""
        if layer.kind == CONVOLUTION:
            return of_gradient(
                moved, layer.weight, layer.row, inputs_of(layer), layer.outputs, anchor, target, c, pull,
                pointer(scratch.weights), np.int64(0),
            )  # fmt: skip
        if layer.kind == PIXELS and sparse:
            return of_nonzero(
                moved, layer.weight, layer.row, inputs_of(layer), layer.outputs, anchor, target, c, pull,
                pointer(scratch.inputs), pointer(scratch.turned), scratch.examples, scratch.alive, batch,
                pointer(scratch.norms),
            )  # fmt: skip
        return products(network, layer, moved, anchor, target, c, pull, batch, scratch)

    return of_matrix


@merged
def _vectors_of(layer):
    """How many vectors of parameters a layer has: its bias; with normalisation shift and scale, too."""
    return 3 if layer.standard >= 0 else 1


@merged
def _place_of(layer, k):
    """Where the k-th vector lies, whose gradient is the k-th row of ``scratch.vectors``."""
    return layer.bias if k == 0 else layer.shift if k == 1 else layer.scale


def build_layer_update(of_adam: Callable, of_sgd: Callable | None, regularised: bool) -> Callable:
    """The update of a layer by the optimiser of the run.

    Args:
        of_adam: rule from `rules`.
        of_sgd: likewise; None if gradient descent never comes here.
        regularised: whether there may be weight decay or a pull.

    Returns:
        A function for kernels.
    """
    with_adam = _build_layer_update(of_adam, regularised)
    with_sgd = with_adam if of_sgd is None else _build_layer_update(of_sgd, regularised)

    @merged
    def update_layer(network, number, arena, state, moved, run, member, sparse, scale, batch, scratch):
        if run.momentum_only:
            return with_sgd(network, number, arena, state, moved, run, member, sparse, scale, batch, scratch)
        return with_adam(network, number, arena, state, moved, run, member, sparse, scale, batch, scratch)

    return update_layer


def _build_layer_update(rule: Callable, regularised: bool) -> Callable:
    updates = build_updates(rule, regularised)
    of_gradient, of_matrix = updates.of_gradient, _build_of_matrix(updates)

    @merged
    def update_weights(layer, network, arena, state, moved, run, member, sparse, scale, batch, scratch, number):
        c, strength = scratch.coefficients, run.hyper[member, STRENGTH]
        anchor, target = pointer(state.anchor), layer.weight
        if strength == 0.0:
            anchor = pointer(state.params)
        elif run.ranked[member]:
            ranked_targets(layer, arena, member, state, scratch)
            anchor, target = pointer(scratch.pulled), np.int64(0)
        pull = np.float32(2.0 * strength * network.factors[number, PULL] * scale)
        return of_matrix(network, layer, moved, anchor, target, c, pull, sparse, batch, scratch)

    @called
    def update_layer(network, number, arena, state, moved, run, member, sparse, scale, batch, scratch):
        """Updates all parameters of a layer whose gradients are there; returns the sums of |change| and its squares.

        Vectors follow the births of outputs only: their row is the member by itself.
        """
        layer, c = layer_of(network, number), scratch.coefficients
        l1, l2 = update_weights(layer, network, arena, state, moved, run, member, sparse, scale, batch, scratch, number)
        vectors, moved = pointer(scratch.vectors), of_vectors(moved)
        for k in range(_vectors_of(layer)):
            at = _place_of(layer, k)
            sums = of_gradient(
                moved, at, layer.row, np.int64(1), layer.outputs, moved.params, at, c, np.float32(0.0), vectors,
                k * layer.row,
            )  # fmt: skip
            l1 += sums[0]
            l2 += sums[1]
        return l1, l2

    return update_layer


_norms, _storing = build_norms(), build_storing()
_norms_of_gradient, _norms_of_matrix = _norms.of_gradient, _build_of_matrix(_norms)
_store_gradient, _store_matrix = _storing.of_gradient, _build_of_matrix(_storing)
_norms_of_product = _build_products(_norms.of_product)


def build_noisy_update(of_adam: Callable, of_sgd: Callable) -> Callable:
    """The update of a layer to whose gradients ``scratch.held`` is added; arguments as of `build_layer_update`.

    Returns:
        A function for kernels.
    """
    with_adam, with_sgd = _build_noisy_update(of_adam), _build_noisy_update(of_sgd)

    @merged
    def update_layer(network, number, moved, size, is_relative, run, sparse, scale, batch, scratch):
        if run.momentum_only:
            return with_sgd(network, number, moved, size, is_relative, sparse, scale, batch, scratch)
        return with_adam(network, number, moved, size, is_relative, sparse, scale, batch, scratch)

    return update_layer


def _build_noisy_update(rule: Callable) -> Callable:
    updates = build_updates(rule, regularised=True, noisy=True)
    of_gradient, of_matrix = updates.of_gradient, _build_of_matrix(updates)

    @called
    def update_layer(network, number, moved, size, is_relative, sparse, scale, batch, scratch):
        """As that of `build_layer_update`.

        Args:
            network: the network.
            number: of the layer.
            moved: ``Pointers``.
            size: factor of what is added.
            is_relative: whether it is multiplied by the length of each tensor's gradient, too.
            sparse: whether zeros are left out.
            scale: of the gradient.
            batch: examples.
            scratch: the thread's memory.

        Returns:
            The sums of |change| and of its squares.
        """
        layer, c, none = layer_of(network, number), scratch.coefficients, np.float32(0.0)
        held, at, factor, one = pointer(scratch.held), layer.weight, size * scale, np.int64(1)
        if is_relative:
            found = _norms_of_matrix(network, layer, moved, held, at, c, none, sparse, batch, scratch)
            factor = size * math.sqrt(found[1])
        l1, l2 = of_matrix(network, layer, moved, held, at, c, np.float32(factor), sparse, batch, scratch)
        vectors = pointer(scratch.vectors)
        for k in range(_vectors_of(layer)):
            at, start = _place_of(layer, k), k * layer.row
            if is_relative:
                found = _norms_of_gradient(
                    moved, at, layer.row, one, layer.outputs, held, at, c, none, vectors, start
                )  # fmt: skip
                factor = size * math.sqrt(found[1])
            sums = of_gradient(
                moved, at, layer.row, one, layer.outputs, held, at, c, np.float32(factor), vectors, start
            )  # fmt: skip
            l1 += sums[0]
            l2 += sums[1]
        return l1, l2

    return update_layer


@called
def store_layer(network, number, moved, gradient, sparse, scale, batch, scratch):
    """Writes the gradients of a layer, without their scale, to ``gradient``, as the parameters of a ``State``."""
    layer, c, share = layer_of(network, number), scratch.coefficients, np.float32(1.0 / scale)
    to = Pointers(
        moved.params, gradient, gradient, moved.values, moved.outputs, moved.roots_of_outputs, moved.inputs,
        moved.roots_of_inputs,
    )  # fmt: skip
    _store_matrix(network, layer, to, moved.params, layer.weight, c, share, sparse, batch, scratch)
    for k in range(_vectors_of(layer)):
        at = _place_of(layer, k)
        _store_gradient(
            to, at, layer.row, np.int64(1), layer.outputs, moved.params, at, c, share, pointer(scratch.vectors),
            k * layer.row,
        )  # fmt: skip


@merged
def sum_gradients(network, number, moved, scale, batch, scratch):
    """Keeps mean |gradient| of the units of a layer whose gradients are there."""
    layer, norms = layer_of(network, number), pointer(scratch.norms)
    if layer.kind == CONVOLUTION:
        sum_magnitudes(pointer(scratch.weights), np.int64(0), inputs_of(layer), layer.row, norms)
    else:
        c, at = scratch.coefficients, layer.weight
        _norms_of_product(network, layer, moved, moved.params, at, c, np.float32(0.0), batch, scratch)
    keep_magnitudes(network, number, norms, scale, scratch)
