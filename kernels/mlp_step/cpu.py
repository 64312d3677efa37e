"""Training and evaluation of many multilayer perceptrons on the cores of a CPU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from fastplast_kernels.mlp_step import evaluation, step, workers
from fastplast_kernels.mlp_step.activations import CODES
from fastplast_kernels.mlp_step.layers import DenseLayer
from fastplast_kernels.mlp_step.rules import NUM_COEFFICIENTS
from fastplast_kernels.update import Hyperparameters
from fastplast_kernels.wasserstein.cpu import new_scratch
from torch import Tensor

_TRAINERS = {"adam": step.train_adam, "adamw": step.train_adam, "sgd": step.train_sgd}


class Data(Protocol):
    """A task of `M` members: input i of member m's example n is pixel p = pixels[m, i] of image rows[m, n].

    Attributes:
        images: `[R, I]` uint8 or float32.
        rows: `[M, N]` int64.
        labels: `[M, N]` int64.
        pixels: `[M, I]` int64, or None for i itself.
        scale: `[I]` float32; the input is image * scale[p] + shift[p].
        shift: `[I]` float32.
    """

    images: Tensor
    rows: Tensor
    labels: Tensor
    pixels: Tensor | None
    scale: Tensor
    shift: Tensor


class Sums(NamedTuple):
    """Sums over the updates that were made, each `[M]`.

    Attributes:
        steps: int64, number of updates.
        loss: float64, batch losses before the update, without the penalty.
        error: float64, misclassified fractions of the batches.
        update_l1: float64, mean |change| of a parameter.
        update_l2: float64, Euclidean length of the change.
    """

    steps: Tensor
    loss: Tensor
    error: Tensor
    update_l1: Tensor
    update_l2: Tensor


class Evaluation(NamedTuple):
    """Members over all `N` examples: loss and error `[M]` float64, features `[M, N, O]` float32 of hidden layers."""

    loss: Tensor
    error: Tensor
    features: list[Tensor]


def train(
    params: Tensor,
    m: Tensor,
    v: Tensor,
    steps: Tensor,
    diverged: Tensor,
    layers: Sequence[DenseLayer],
    data: Data,
    order: Tensor,
    hyper: Hyperparameters,
    optimizer: str = "adam",
    decoupled: bool = False,
    anchor: Tensor | None = None,
    ranked: Tensor | None = None,
    threads: int | None = None,
) -> Sums:
    """Trains `M` networks, one update for each of `S` minibatches, changing the first five arguments in place.

    Forward pass, cross-entropy, backward pass, pull and optimiser are those of ``reference.train``. A member's bits do
    not depend on the others, on the number of threads or on how the steps are split into calls. A member whose batch
    loss is not finite, or whose update has an L1 norm that is not finite, is left as it was before that update.

    Args:
        params: `[M, P]` float32, contiguous.
        m: `[M, P]` float32, first moments, or the momentum buffers of ``sgd``.
        v: `[M, P]` float32, second moments; not touched by ``sgd``.
        steps: `[M]` int64, updates made so far.
        diverged: `[M]` int64, the update (from 0) before which a member was frozen; -1 for one in good health.
        layers: input to output.
        data: the task.
        order: `[M, S, B]` int64, positions among the member's examples; -1 from some position on ends a ragged batch.
        hyper: per member.
        optimizer: ``adam``, ``adamw`` (the same) or ``sgd``.
        decoupled: whether weight decay shrinks the weights directly or enters the gradient.
        anchor: `[M, P]` float32, what weights are pulled to; may be None if every strength is 0.
        ranked: `[M]` bool, members whose anchor holds the sorted targets of each weight matrix, dealt out by rank.
        threads: cores to use; None for all that this process may use.

    Returns:
        Sums over the updates of this call.

    Raises:
        ValueError: if shapes, names or indices do not fit together.
        TypeError: if a tensor has the wrong dtype or is not contiguous.
    """
    members, size = params.shape
    order = order.contiguous()
    for name, tensor in (("params", params), ("m", m), ("v", v), ("anchor", params if anchor is None else anchor)):
        _check(name, tensor, (members, size), torch.float32)
    ranked = torch.zeros(members, dtype=torch.bool) if ranked is None else ranked
    for name, tensor, dtype in (("steps", steps, torch.int64), ("diverged", diverged, torch.int64)):
        _check(name, tensor, (members,), dtype)
    _check("ranked", ranked, (members,), torch.bool)
    _check_layers(layers, size, data)
    _check_data(data, members, layers[-1].outputs)
    _check_order(order, members, data.rows.shape[1])
    if optimizer not in _TRAINERS:
        raise ValueError(f"optimizer is unknown: got {optimizer!r}. Choose one of {', '.join(_TRAINERS)}.")
    if anchor is None and bool((hyper.strength != 0).any()):
        raise ValueError("anchor must be given where a strength is not 0: got None. Pass the targets [M, P].")
    sums = torch.zeros(members, 4, dtype=torch.float64)
    before, table = steps.clone(), torch.stack([value.double() for value in hyper], 1)
    run = step.Run(*(x.numpy() for x in (order, table, ranked, steps, diverged, sums)), decoupled)
    moments, targets = v if optimizer != "sgd" else m, params if anchor is None else anchor
    arena = step.Arena(*(x.view(-1).numpy() for x in (params, m, moments, targets)), size)
    threads = min(members, threads or available_cores())
    largest = max(layer.inputs * layer.outputs for layer in layers) if bool(ranked.any()) else 0
    network, width = _plan(layers, order.shape[2])
    scratch = [_scratch(width, layers[0].inputs, order.shape[2], size, largest) for _ in range(threads)]
    examples, count, trainer = _examples(data), sum(layer.count for layer in layers), _TRAINERS[optimizer]
    workers.run(lambda counter, i: trainer(network, arena, examples, run, count, counter, scratch[i]), members, threads)
    return Sums(steps - before, *sums.T.contiguous())


def evaluate(
    params: Tensor, layers: Sequence[DenseLayer], data: Data, features: bool = True, threads: int | None = None
) -> Evaluation:
    """Loss, error and features of members over all `N` examples of their task.

    Args:
        params: `[M, P]` float32, contiguous.
        layers: input to output.
        data: the task.
        features: whether to return the activations of the hidden layers.
        threads: cores to use; None for all that this process may use.

    Returns:
        The evaluation; losses are summed in float64. Its bits do not depend on the other members or the threads.

    Raises:
        ValueError: if shapes or indices do not fit together.
        TypeError: if a tensor has the wrong dtype or is not contiguous.
    """
    members, size = params.shape
    _check("params", params, (members, size), torch.float32)
    _check_layers(layers, size, data)
    _check_data(data, members, layers[-1].outputs)
    n, widths = data.rows.shape[1], [layer.outputs for layer in layers[:-1]]
    flat = torch.empty(members * n * sum(widths) if features else 0)
    starts = np.cumsum([0, *(members * n * width for width in widths)])
    network, length = _plan(layers, evaluation.BLOCK)
    threads = min(members, threads or available_cores())
    scratch = [_scratch(length, layers[0].inputs, evaluation.BLOCK, 0, 0) for _ in range(threads)]
    row = params.view(-1).numpy()
    arena, examples = step.Arena(row, row, row, row, size), _examples(data)
    loss, error = np.zeros(members), np.zeros(members)
    out = (loss, error, flat.numpy(), starts)
    workers.run(
        lambda counter, i: evaluation.evaluate_members(network, arena, examples, *out, counter, scratch[i]),
        members,
        threads,
    )
    blocks = [flat[a:b].view(members, n, w) for a, b, w in zip(starts, starts[1:], widths)] if features else []
    return Evaluation(torch.from_numpy(loss), torch.from_numpy(error), blocks)


def available_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _plan(layers: Sequence[DenseLayer], batch: int) -> tuple[step.Network, int]:
    """Places of activations and gradients for `batch` examples, and how many floats they take."""

    def padded(width: int) -> int:
        return -(-width // step.STRIDE) * step.STRIDE * batch

    rows, x = [], 0
    end = padded(layers[0].inputs)
    for layer in layers:
        y, d = end, end + padded(layer.outputs)
        rows.append((layer.inputs, layer.outputs, layer.weight, layer.bias, CODES[layer.activation], x, y, d))
        x, end = y, d + padded(layer.outputs)
    factors = np.array([(layer.slope, layer.pull) for layer in layers], np.float64)
    return step.Network(np.array(rows, np.int64), factors), end


def _scratch(width: int, inputs: int, batch: int, size: int, largest: int) -> step.Scratch:
    # PyTorch aligns its memory to cache lines, NumPy does not.
    floats = [torch.zeros(n).numpy() for n in (width, inputs, NUM_COEFFICIENTS, 1, largest)]
    values, line, coefficients, one, target = floats
    one[0] = 1.0
    sorting = new_scratch(largest) if largest else np.empty(0, np.int32)
    snapshot = torch.empty(3, size).numpy()
    return step.Scratch(values, line, np.empty(batch, np.int64), coefficients, one, target, sorting, snapshot)


def _examples(data: Data) -> step.Examples:
    images, floats = data.images.numpy(), np.empty((0, 0), np.float32)
    if data.images.dtype == torch.float32:
        images, floats = np.empty((0, 0), np.uint8), images
    pixels = np.empty((0, 0), np.int64) if data.pixels is None else data.pixels.numpy()
    tables = (data.rows, data.labels)
    return step.Examples(images, floats, *(x.numpy() for x in tables), pixels, data.scale.numpy(), data.shift.numpy())


def _check(name: str, tensor: Tensor, shape: tuple[int, ...], *dtypes: torch.dtype) -> None:
    if tensor.dtype not in dtypes or not tensor.is_contiguous() or tensor.device.type != "cpu":
        wanted = " or ".join(str(dtype) for dtype in dtypes)
        raise TypeError(
            f"{name} must be a contiguous {wanted} tensor on the CPU: got {tensor.dtype} on {tensor.device}, strides "
            f"{tensor.stride()}. Convert it with .to(...).contiguous()."
        )
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}: got {tuple(tensor.shape)}. Pass one row for each member.")


def _check_range(name: str, tensor: Tensor, low: int, high: int) -> None:
    if tensor.numel() and not (low <= int(tensor.min()) and int(tensor.max()) < high):
        got = f"{int(tensor.min())}..{int(tensor.max())}"
        raise ValueError(f"{name} must lie in {low}..{high - 1}: got {got}. Check the task's tables.")


def _check_layers(layers: Sequence[DenseLayer], size: int, data: Data) -> None:
    if not layers:
        raise ValueError("layers must not be empty: got []. Pass at least one DenseLayer.")
    width = data.scale.numel()
    for i, layer in enumerate(layers):
        if layer.inputs != width:
            raise ValueError(f"layer {i} must have {width} inputs: got {layer.inputs}. Match the outputs below it.")
        if layer.activation not in CODES:
            raise ValueError(f"activation is unknown: got {layer.activation!r}. Choose one of {', '.join(CODES)}.")
        if min(layer.weight, layer.bias) < 0 or layer.weight + layer.inputs * layer.outputs > size:
            raise ValueError(f"layer {i} must lie in a row of {size} floats: got weight at {layer.weight}. Check P.")
        if layer.bias + layer.outputs > size:
            raise ValueError(f"layer {i} must lie in a row of {size} floats: got bias at {layer.bias}. Check P.")
        width = layer.outputs


def _check_data(data: Data, members: int, classes: int) -> None:
    n, inputs = data.rows.shape[1], data.scale.numel()
    _check("images", data.images, (len(data.images), inputs), torch.uint8, torch.float32)
    for name, tensor in (("rows", data.rows), ("labels", data.labels)):
        _check(name, tensor, (members, n), torch.int64)
    for name, tensor in (("scale", data.scale), ("shift", data.shift)):
        _check(name, tensor, (inputs,), torch.float32)
    _check_range("rows", data.rows, 0, len(data.images))
    _check_range("labels", data.labels, 0, classes)
    if data.pixels is not None:
        _check("pixels", data.pixels, (members, inputs), torch.int64)
        _check_range("pixels", data.pixels, 0, inputs)


def _check_order(order: Tensor, members: int, examples: int) -> None:
    _check("order", order, (members, *order.shape[1:]), torch.int64)
    _check_range("order", order, -1, examples)
    if order.numel() and int(order[:, :, 0].min()) < 0:
        raise ValueError("order must start every batch with an example: got -1. Leave out empty batches.")
