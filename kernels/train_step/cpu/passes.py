"""The passes forward and backward of one member, layer by layer.

On the way back the gradient of a layer's product takes the place of its activations, which nobody needs any more by
then.
"""

from __future__ import annotations

import numpy as np
from fastplast_kernels.compilation import called, merged
from fastplast_kernels.train_step.cpu.activations import activate, times_derivative
from fastplast_kernels.train_step.cpu.conv import add_weight_gradient, backward_row, forward_row
from fastplast_kernels.train_step.cpu.inputs import (
    fill_up,
    find_nonzero,
    gather,
    groups,
    interleave,
    stride,
)
from fastplast_kernels.train_step.cpu.modifications import (
    add_sums,
    clear_unpooled,
    drop,
    max_pool,
    standard_row,
    standardise,
    standardise_backward,
    sum_pixels,
    times_row,
    unpool_row,
)
from fastplast_kernels.train_step.cpu.pixels import block_of, forward_pixels
from fastplast_kernels.train_step.cpu.records import CONVOLUTION, DROPOUT, PIXELS, SLOPE, inputs_of, layer_of
from fastplast_kernels.train_step.cpu.simd import pointer
from fastplast_kernels.train_step.cpu.tiles import GROUP, clear, transpose_matrix, turn


@called
def take_minibatch(network, examples, member, positions, scratch):
    """Gathers a minibatch, as rows for a dense layer and as images for a convolution; returns how many examples."""
    batch, first = gather(examples, member, positions, scratch), layer_of(network, 0)
    inputs, images = pointer(scratch.inputs), pointer(scratch.images)
    if first.kind == PIXELS:
        if examples.sparse:
            find_nonzero(first.channels, batch, block_of(first.row), scratch)
        return batch
    width, pixels = stride(examples.scale.shape[0]), first.height * first.width
    fill_up(inputs, 0, width, batch)
    for b in range(0, batch, GROUP):
        group = b // GROUP * network.group
        interleave(inputs, b * width, width, first.channels, pixels, images, group + first.x, first.x_pixel)
    return batch


@merged
def _pixels_forward(layer, sparse, params, batch, scratch):
    """The first dense layer's product of all examples in `scratch.turned`; examples that fill a group are zero."""
    y = pointer(scratch.turned)
    forward_pixels(
        layer, sparse, params, pointer(scratch.inputs), batch, pointer(scratch.pixels), scratch.pixels.shape[1],
        scratch.ends, y,
    )  # fmt: skip
    clear(y, batch * layer.row, (groups(batch) * GROUP - batch) * layer.row)


@merged
def _product_row(layer, i, taps, params, images, group, first, scratch, to, start):
    """Row i of the product for a group of examples, whose first is number ``first`` of the minibatch."""
    if layer.kind == PIXELS:
        turned = pointer(scratch.turned)
        transpose_matrix(turned, first * layer.row, layer.row, GROUP, layer.outputs, to, start, GROUP)
    else:
        forward_row(layer, i, taps, params, images, group, to, start)


@called
def forward(network, params, sparse, batch, stream, scratch):
    """Runs all layers; ``stream`` is that of the masks of dropout."""
    taps, params, images, row = (
        pointer(network.taps), pointer(params), pointer(scratch.images), pointer(scratch.row)
    )  # fmt: skip
    zero = np.int64(0)
    for number in range(network.layers.shape[0]):
        layer, slope = layer_of(network, number), network.factors[number, SLOPE]
        line, normed = layer.out_width * layer.y_pixel, layer.standard >= 0
        if layer.kind == PIXELS:
            _pixels_forward(layer, sparse, params, batch, scratch)
        for first in range(0, batch, GROUP):
            group = first // GROUP * network.group
            if normed:
                for i in range(layer.out_height):
                    to = group + layer.standard + i * line
                    _product_row(layer, i, taps, params, images, group, first, scratch, images, to)
                standardise(layer, params, images, group, pointer(scratch.sums))
            for i in range(layer.out_height):
                if normed:
                    standard_row(layer, i, params, images, group, row)
                else:
                    _product_row(layer, i, taps, params, images, group, first, scratch, row, zero)
                at = group + layer.y + i * line
                activate(layer.activation, slope, row, zero, images, at, layer.out_width, layer.y_pixel, layer.outputs)
            if layer.pool > 1:
                max_pool(layer, images, group)
            if layer.mask >= 0:
                drop(layer, network.factors[number, DROPOUT], stream, first, images, group, pointer(scratch.mask))


@called
def _to_product(network, number, i, gradients, at, images, group, scratch):
    """From the gradient of row i of what is seen of a layer to that of its product before the activation."""
    layer, slope = layer_of(network, number), network.factors[number, SLOPE]
    if layer.mask >= 0:
        seen = layer.out_width // layer.pool * layer.y_pixel
        times_row(gradients, at, images, group + layer.mask + i * seen, seen)
    row, start = gradients, at
    if layer.pool > 1:
        row, start = pointer(scratch.lines), np.int64(0)
        unpool_row(layer, i, gradients, at, images, group, row)
        if i == 0:
            clear_unpooled(layer, images, group)
    pixels = layer.pool * layer.out_width
    place = group + layer.y + i * pixels * layer.y_pixel
    times_derivative(layer.activation, slope, row, start, images, place, pixels, layer.y_pixel, layer.outputs)


@called
def gradients_of(network, number, params, batch, scratch):
    """Gradients of bias and normalisation of a layer, and of a convolution's weights; turns those of a dense product.

    The gradient with respect to its normalised product becomes that with respect to the product.
    """
    layer, params, images, sums = (
        layer_of(network, number), pointer(params), pointer(scratch.images), pointer(scratch.sums)
    )  # fmt: skip
    vectors, weights, turned = pointer(scratch.vectors), pointer(scratch.weights), pointer(scratch.turned)
    clear(vectors, 0, 3 * layer.row)
    if layer.kind == CONVOLUTION:
        clear(weights, 0, inputs_of(layer) * layer.row)
    for first in range(0, batch, GROUP):
        group = first // GROUP * network.group
        if layer.standard >= 0:
            standardise_backward(layer, params, images, group, sums, vectors)
        sum_pixels(layer, images, group + layer.y, sums)
        add_sums(sums, 0, layer.outputs, vectors, 0)
        if layer.kind == CONVOLUTION:
            add_weight_gradient(layer, images, group, turned, weights)
        else:
            turn(images, group + layer.y, layer.outputs, turned, first * layer.row, layer.row)


@called
def backward(network, number, params, batch, scratch):
    """From the gradient of a layer's product to that of the product of the layer below, in its place.

    What a dense layer sees is needed for the gradient of its weights: the gradient waits in `scratch.gradients`.
    """
    layer, taps, params = layer_of(network, number), pointer(network.taps), pointer(params)
    images, zeros, row = pointer(scratch.images), pointer(scratch.zeros), pointer(scratch.row)
    gradients, line, zero = pointer(scratch.gradients), layer.width * layer.x_pixel, np.int64(0)
    for group in range(0, groups(batch) * network.group, network.group):
        waiting = group // network.group * layer.height * line
        for i in range(layer.height):
            if layer.kind == CONVOLUTION:
                backward_row(layer, i, taps, params, images, group, zeros, row, zero)
                _to_product(network, number - 1, i, row, zero, images, group, scratch)
            else:
                backward_row(layer, i, taps, params, images, group, zeros, gradients, waiting + i * line)


@called
def replace_seen(network, number, batch, scratch):
    """After the update of a dense layer: what waits takes the place of what the layer sees."""
    layer, below = layer_of(network, number), layer_of(network, number - 1)
    images, gradients = pointer(scratch.images), pointer(scratch.gradients)
    line = below.out_width // below.pool * below.y_pixel
    size = layer.height * layer.width * layer.x_pixel
    for group in range(0, groups(batch) * network.group, network.group):
        for i in range(below.out_height // below.pool):
            at = group // network.group * size + i * line
            _to_product(network, number - 1, i, gradients, at, images, group, scratch)
