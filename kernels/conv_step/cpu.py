"""Training of many convolutional networks on the cores of a CPU."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from math import prod

import numpy as np
from fastplast_kernels.constants import CODES
from fastplast_kernels.conv_step import passes, step
from fastplast_kernels.conv_step.conv import backward_taps, forward_taps, pixel_stride
from fastplast_kernels.conv_step.layers import ConvLayer
from fastplast_kernels.conv_step.tiles import GROUP
from fastplast_kernels.mlp_step import calls
from fastplast_kernels.mlp_step import cpu as dense
from fastplast_kernels.mlp_step.arguments import Data, Sums, check_layers, check_modifications
from fastplast_kernels.mlp_step.layers import DenseLayer
from fastplast_kernels.mlp_step.step import STRIDE
from fastplast_kernels.optimisers import Hyperparameters
from torch import Tensor

_TRAINERS = {"adam": step.train_adam, "adamw": step.train_adam, "sgd": step.train_sgd}
_HUGE_PAGE = 2 << 20


def train(
    params: Tensor,
    m: Tensor,
    v: Tensor,
    steps: Tensor,
    diverged: Tensor,
    layers: Sequence[ConvLayer | DenseLayer],
    data: Data,
    order: Tensor,
    hyper: Hyperparameters,
    optimizer: str = "adam",
    decoupled: bool = False,
    anchor: Tensor | None = None,
    ranked: Tensor | None = None,
    keys: Tensor | None = None,
    threads: int | None = None,
) -> Sums:
    """Trains `M` networks, one update for each of `S` minibatches, changing the first five arguments in place.

    As ``mlp_step.cpu.train``, for networks whose first layers are convolutions: forward pass, cross-entropy, backward
    pass, pull and optimiser are those of ``reference.train``. A member's bits do not depend on the others, on the
    number of threads or on how the steps are split into calls. A member whose batch loss is not finite, or whose update
    has an L1 norm that is not finite, is left as it was before that update.

    Args:
        params: `[M, P]` float32, contiguous.
        m: `[M, P]` float32, first moments, or the momentum buffers of ``sgd``.
        v: `[M, P]` float32, second moments; not touched by ``sgd``.
        steps: `[M]` int64, updates made so far.
        diverged: `[M]` int64, the update (from 0) before which a member was frozen; -1 for one in good health.
        layers: input to output; one or more convolutions, then one or more dense layers, the first of which sees the
            last image flattened, channels first.
        data: the task.
        order: `[M, S, B]` int64, positions among the member's examples; -1 from some position on ends a ragged batch.
        hyper: per member.
        optimizer: ``adam``, ``adamw`` (the same) or ``sgd``.
        decoupled: whether weight decay shrinks the weights directly or enters the gradient.
        anchor: `[M, P]` float32, what weights are pulled to; may be None if every strength is 0.
        ranked: `[M]` bool, members whose anchor holds the sorted targets of each layer's weights, dealt out by rank.
        keys: `[M, 2]` int64, of the members' masks, of ``dropout.dropout_mask``; may be None without dropout.
        threads: cores to use; None for all that this process may use.

    Returns:
        Sums over the updates of this call.

    Raises:
        ValueError: if shapes, names or indices do not fit together.
        TypeError: if a tensor has the wrong dtype or is not contiguous.
    """
    state = (params, m, v, steps, diverged)

    def plan(batch: int) -> calls.Plan:
        convolutions, tail = _check_layers(layers, params.shape[1], data)
        return _plan(convolutions, tail, batch)

    return calls.train(state, plan, data, order, hyper, optimizer, decoupled, anchor, ranked, keys, threads, _TRAINERS)


def _plan(convolutions: list[ConvLayer], tail: list[DenseLayer], batch: int) -> calls.Plan:
    network, width = _places(convolutions, tail, batch)
    layers = [*convolutions, *tail]
    return calls.Plan(
        network,
        layers,
        classes=tail[-1].width,
        count=sum(layer.count for layer in layers),
        largest=max(layer.inputs * layer.outputs for layer in layers),
        scratch=lambda size, largest: _scratch(convolutions, network, width, batch, size, largest),
    )


def _padded(batch: int) -> int:
    return -(-batch // GROUP) * GROUP


def _places(convolutions: list[ConvLayer], tail: list[DenseLayer], batch: int) -> tuple[passes.Network, int]:
    """Tables of a network, and how many floats the dense part needs for `batch` examples."""
    rows, factors, taps, x = [], [], [], 0
    first = convolutions[0]
    end = first.height * first.width * pixel_stride(first.channels)

    def place(floats: int) -> int:
        nonlocal end
        start, end = end, end + floats
        return start

    for layer in convolutions:
        y_pixel, tables = pixel_stride(layer.channels_above), []
        image, above = layer.positions * y_pixel, prod(layer.shape_above[1:]) * y_pixel
        y = place(image)
        seen = place(above) if layer.pool > 1 or layer.dropout else y
        standard, factor = (place(image), place(GROUP)) if layer.normed else (-1, -1)
        mask = place(above) if layer.dropout else -1
        for make in (forward_taps, backward_taps):
            for length, out in ((layer.height, layer.out_height), (layer.width, layer.out_width)):
                tables.append(sum(len(table) for table in taps))
                taps.append(make(length, out, layer.kernel, layer.stride, layer.padding))
        shape = (layer.channels, layer.height, layer.width, layer.outputs, layer.kernel, layer.stride, layer.padding)
        places = (layer.weight, layer.bias, x, pixel_stride(layer.channels), y, y_pixel)
        norm = (layer.norm_scale, layer.norm_shift, standard, factor)
        pool, code = (layer.pool, seen, layer.channels_above), CODES[layer.activation]
        size = (layer.out_height, layer.out_width, code)
        rows.append((*shape, *size, *places, *tables, *pool, *norm, mask, layer.number))
        factors.append((layer.slope, layer.pull, layer.dropout))
        x = seen
    network, gradient = dense.places(tail, _padded(batch))
    width = gradient + -(-tail[0].inputs // STRIDE) * STRIDE * _padded(batch)
    table, taps = np.array(rows, np.int64), np.concatenate(taps)
    return passes.Network(table, np.array(factors, np.float64), taps, end, network, gradient), width


def _memory(floats: int) -> np.ndarray:
    """Zeros that begin a huge page where the system has them: images are strided, and small pages cost a third."""
    block = mmap.mmap(-1, 4 * floats + _HUGE_PAGE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    memory = np.frombuffer(block, np.float32)
    start = -memory.ctypes.data % _HUGE_PAGE // 4
    return memory[start : start + floats]


def _scratch(
    convolutions: list[ConvLayer], network: passes.Network, width: int, batch: int, size: int, largest: int
) -> passes.Scratch:
    first = convolutions[0]
    inputs = first.channels * first.height * first.width
    below = dense.new_memory(width, inputs, batch, size, largest)
    channels = max(max(layer.channels, layer.outputs) for layer in convolutions)
    masked = [prod(layer.shape_above) * GROUP for layer in convolutions if layer.dropout]
    lengths = (
        -(-inputs // STRIDE) * STRIDE * _padded(batch),
        network.group * (_padded(batch) // GROUP),
        max(
            max(layer.width * pixel_stride(layer.channels), layer.out_width * pixel_stride(layer.channels_above))
            for layer in convolutions
        ),
        max(layer.pool * layer.out_width * pixel_stride(layer.channels_above) for layer in convolutions),
        channels,
        2 * channels * GROUP,
        max(layer.inputs * layer.outputs for layer in convolutions),
        channels,
        channels,
        channels,
        max(masked, default=0),
    )
    ends = np.cumsum([-(-length // STRIDE) * STRIDE for length in lengths])
    parts = np.split(_memory(int(ends[-1])), ends[:-1])
    return passes.Scratch(*below, *(part[:length] for part, length in zip(parts, lengths)))


def _check_layers(
    layers: Sequence[ConvLayer | DenseLayer], size: int, data: Data
) -> tuple[list[ConvLayer], list[DenseLayer]]:
    convolutions = [layer for layer in layers if isinstance(layer, ConvLayer)]
    tail = [layer for layer in layers if isinstance(layer, DenseLayer)]
    if not convolutions or not tail or list(layers) != [*convolutions, *tail]:
        names = [type(layer).__name__ for layer in layers]
        raise ValueError(f"layers must be convolutions, then dense layers: got {names}. Pass at least one of each.")
    shape = None
    for i, layer in enumerate(convolutions):
        got = (layer.channels, layer.height, layer.width)
        if shape is not None and got != shape:
            raise ValueError(f"layer {i} must have inputs {shape}: got {got}. Match the outputs below it.")
        if min(layer.kernel, layer.stride, layer.out_height, layer.out_width) < 1 or layer.padding < 0:
            got = f"kernel {layer.kernel}, stride {layer.stride}, padding {layer.padding}"
            raise ValueError(f"layer {i} must have an output: got {got}. Pass a smaller kernel or a larger padding.")
        if layer.activation not in CODES:
            raise ValueError(f"activation is unknown: got {layer.activation!r}. Choose one of {', '.join(CODES)}.")
        if (
            min(layer.weight, layer.bias) < 0
            or max(layer.weight + layer.inputs * layer.outputs, layer.bias + layer.outputs) > size
        ):
            places = f"weight at {layer.weight}, bias at {layer.bias}"
            raise ValueError(f"layer {i} must lie in a row of {size} floats: got {places}. Check P.")
        check_modifications(i, layer, size)
        if layer.pool < 1 or min(layer.shape_above) < 1:
            raise ValueError(f"layer {i} must leave a pixel: got pool {layer.pool}. Pass a smaller one, 1 for none.")
        shape = layer.shape_above
    first, inputs = convolutions[0], data.scale.numel()
    if first.channels * first.height * first.width != inputs:
        got = (first.channels, first.height, first.width)
        raise ValueError(f"layer 0 must have {inputs} inputs: got {got}. Match the task's images.")
    check_layers(tail, size, prod(convolutions[-1].shape_above))
    return convolutions, tail
