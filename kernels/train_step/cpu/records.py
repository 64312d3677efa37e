"""What kernels are given: a network's tables, members, a task, and a thread's memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from fastplast_kernels.compilation import called

PIXELS, DENSE, CONVOLUTION = range(3)  # kinds of layers: dense on the examples' rows, dense on images, convolution


class Layer(NamedTuple):
    """A layer's shape, and where its parameters, images and taps lie.

    A dense layer is a convolution whose kernel covers the whole image, as one column of pixels: its output is one
    pixel. Images are those of one group of examples, parameters those of a `State`.
    """

    kind: int
    channels: int  # of the input
    height: int
    width: int
    outputs: int  # channels of the product
    kernel_height: int
    kernel_width: int
    stride: int
    padding: int
    out_height: int
    out_width: int
    activation: int
    pool: int
    above: int  # channels of the activations
    weight: int  # in the parameters, one row of outputs for each input, as are the next three
    bias: int
    scale: int  # of the normalisation
    shift: int
    row: int  # floats from one row of weights to the next: outputs, rounded up to whole vectors
    given_weight: int  # in a member's row of the arena, a row of inputs for each output, as are the next three
    given_bias: int
    given_scale: int
    given_shift: int
    x: int  # the input in a group's images
    x_pixel: int  # floats from one pixel of the input to the next
    y: int  # the activations
    y_pixel: int
    seen: int  # what the layer above sees, after pooling and dropout; y without
    standard: int  # what is normalised, -1 for nothing
    factor: int  # by what, one number for each example; then what is left of the mean
    mask: int  # of dropout, -1 for none
    number: int  # in the masks' stream
    forward_i: int  # first row in the table of taps: of `forward_taps` along the height
    forward_j: int  # along the width
    backward_i: int  # of `backward_taps` along the height
    backward_j: int  # along the width


class Network(NamedTuple):
    """Layers of a member, input to output."""

    layers: np.ndarray  # rows of `Layer`
    factors: np.ndarray  # float64 `[L, 3]`: slope of the activation, c of the pull, rate of dropout
    taps: np.ndarray
    group: int  # floats of the images of a group
    size: int  # floats of the parameters of a `State`


SLOPE, PULL, DROPOUT = range(3)  # columns of `Network.factors`


class Arena(NamedTuple):
    """All members' parameters, moments and anchors, flat; `size` floats for each member."""

    params: np.ndarray
    m: np.ndarray
    v: np.ndarray
    anchor: np.ndarray
    size: int


class State(NamedTuple):
    """A member's parameters, moments and anchor while it is trained: `[I, O]` matrices of whole vectors."""

    params: np.ndarray
    m: np.ndarray
    v: np.ndarray
    anchor: np.ndarray


class Pointers(NamedTuple):
    """To parameters and moments; and where the coefficients of rows and columns are, if these count updates themselves.

    The rate of output o of a matrix is at outputs + o, that of its row i at inputs + i, and roots so far behind each.
    """

    params: int
    m: int
    v: int
    values: int
    outputs: int
    roots_of_outputs: int
    inputs: int
    roots_of_inputs: int


class Examples(NamedTuple):
    """A task's tables; images are bytes or floats, the other one is empty, as are absent pixel permutations."""

    images: np.ndarray
    float_images: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    pixels: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    sparse: bool  # whether the first dense layer leaves zeros out


class Run(NamedTuple):
    """What is done, and what comes of it.

    Order is `[M, S, B]`, hyper `[M, 7]`, keys of dropout `[M, 2]`, sums `[M, E, 5]`, the others `[M]`. A member
    makes the updates begin, begin + 1, ... end - 1 of the order, and begin becomes the first that it has not made.
    """

    order: np.ndarray
    hyper: np.ndarray
    ranked: np.ndarray
    keys: np.ndarray
    steps: np.ndarray
    since: np.ndarray  # updates made when Adam's count began
    begin: np.ndarray
    end: np.ndarray
    diverged: np.ndarray
    sums: np.ndarray
    part: int  # updates of each of the E parts of S
    decoupled: bool
    momentum_only: bool  # whether there are no second moments, and `v` is `m`


class Watch(NamedTuple):
    """What is watched about units: ``units.Units`` in tables."""

    kind: np.ndarray  # `[M]`, position in ``units.KINDS``, -1 for none
    row: np.ndarray  # `[M]`, in the tensors of its kind
    settings: np.ndarray  # float64 `[M, S]`
    parts: np.ndarray  # `[kinds, layers, parts]`, addresses of tensors
    born: np.ndarray  # `[M, 2, U]`
    due: np.ndarray  # bool `[M]`, the result: whose method is to decide now


class Acting(NamedTuple):
    """What is done to parameters after updates: ``actions.Actions`` in tables."""

    kind: np.ndarray  # `[M]`, position in ``actions.KINDS``, -1 for none
    row: np.ndarray  # `[M]`, in the tensors of its kind
    settings: np.ndarray  # float64 `[M, S]`
    of_layers: np.ndarray  # float64 `[M, L]`
    draws: np.ndarray  # bool `[M]`
    parts: np.ndarray  # `[M, parts]`, addresses of tensors
    init: np.ndarray  # as `Arena.params`
    size: int  # P
    keys: np.ndarray  # `[M, S, 2]`


class Scratch(NamedTuple):
    """One thread's memory."""

    inputs: np.ndarray  # of the minibatch, `[examples, I]`
    images: np.ndarray  # activations and their gradients, group by group
    row: np.ndarray  # of pixels
    lines: np.ndarray  # rows of pixels, as many as a pooling window has
    gradients: np.ndarray  # with respect to a dense layer's inputs, group by group
    turned: np.ndarray  # examples or pixels in rows of outputs
    weights: np.ndarray  # gradients of a convolution's
    vectors: np.ndarray  # of bias, shift and scale
    sums: np.ndarray  # over pixels, for `vectors` and normalisations
    norms: np.ndarray  # of the change, for each output
    mask: np.ndarray  # of a group of examples, as `fill_mask` writes it
    zeros: np.ndarray
    coefficients: np.ndarray  # of the update rule
    line: np.ndarray  # one input before the permutation
    target: np.ndarray  # `[2, weights]`: a ranked matrix as in the arena, and its targets
    pulled: np.ndarray  # the targets, as in a `State`
    state: np.ndarray  # a `State`
    held: np.ndarray  # what an action adds to a member, what it keeps, and gradients, each as parameters of a `State`
    drawn: np.ndarray  # normal numbers for a row of the arena
    labels: np.ndarray  # of the minibatch
    words: np.ndarray  # int64, random
    sorting: np.ndarray  # int32, for `rank_target`
    table: np.ndarray  # uint16, for `append_nonzero`
    pixels: np.ndarray  # uint16 `[examples, I]`: which are not zero
    ends: np.ndarray  # int64 `[examples, blocks + 1]`: how many of these before each block
    examples: np.ndarray  # int64 `[words, I]`: bits of the examples that have a pixel
    births: np.ndarray  # coefficients of a layer's rows and columns by age, of `spread_ages`
    found: np.ndarray  # of channels, or of inputs of a layer, while they are watched
    sizes: np.ndarray  # float64, of the inputs of all layers above a hidden one: what `look` found
    means: np.ndarray  # float64, likewise
    aged: np.ndarray  # `[2, 2 U + 1]`, of `age_units`
    powers: np.ndarray  # float64 `[3, TABLE]`: of beta1, beta2 and a method's decay
    alive: np.ndarray  # uint8 `[I]`: whether an update may move a pixel's weights though its gradient is zero


@called
def layer_of(network, i):
    """Row i of the table."""
    f = network.layers[i]
    return Layer(
        f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8], f[9], f[10], f[11], f[12], f[13], f[14], f[15], f[16],
        f[17], f[18], f[19], f[20], f[21], f[22], f[23], f[24], f[25], f[26], f[27], f[28], f[29], f[30], f[31], f[32],
        f[33], f[34], f[35],
    )  # fmt: skip


@called
def inputs_of(layer):
    """Rows of the matrix of weights."""
    return layer.channels * layer.kernel_height * layer.kernel_width


@called
def area_above(layer):
    """Pixels of what the layer above sees."""
    return (layer.out_height // layer.pool) * (layer.out_width // layer.pool)
