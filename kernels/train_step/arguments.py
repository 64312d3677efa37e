"""Arguments of the kernels that train members: what they are, and what they must be."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple, Protocol

import torch
from fastplast_kernels.constants import CODES
from fastplast_kernels.train_step.layers import ConvLayer, DenseLayer, Layer
from torch import Tensor


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
    """Sums over the updates that were made, each `[M]`; of parts of the updates `[M, E]`.

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


class Span(NamedTuple):
    """Which updates of a call members make.

    Attributes:
        begin: `[M]` int64, position of the first in the order; becomes that of the first that was not made.
        end: `[M]` int64, position after the last.
        due: `[M]` bool, becomes True of a member that stopped as its method is to decide.
    """

    begin: Tensor
    end: Tensor
    due: Tensor


def whole_span(order: Tensor) -> Span:
    """All updates of an order `[M, S, B]`."""
    members, steps, _ = order.shape
    begin = torch.zeros(members, dtype=torch.int64)
    return Span(begin, torch.full_like(begin, steps), begin > 0)


def check_span(span: Span, since: Tensor, order: Tensor) -> None:
    """Checks which updates are made, and the beginning of Adam's count.

    Args:
        span: to check.
        since: to check.
        order: `[M, S, B]`.

    Raises:
        ValueError: if they are no positions of the order.
    """
    members, steps, _ = order.shape
    for name, tensor in (("since", since), ("begin", span.begin), ("end", span.end)):
        check(name, tensor, (members,), torch.int64)
    check("due", span.due, (members,), torch.bool)
    _check_range("begin", span.begin, 0, steps + 1)
    _check_range("end", span.end, 0, steps + 1)


def check(name: str, tensor: Tensor, shape: tuple[int, ...], *dtypes: torch.dtype) -> None:
    """Checks a tensor that a kernel reads through its address.

    Args:
        name: of the argument, for the message.
        tensor: the argument.
        shape: what its shape must be.
        dtypes: any of them will do.

    Raises:
        TypeError: if it has another dtype, is not contiguous or not on the CPU.
        ValueError: if it has another shape.
    """
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


def check_layers(layers: Sequence[Layer], size: int, width: int) -> None:
    """Checks that layers fit each other and a row of parameters.

    Args:
        layers: input to output.
        size: P.
        width: of what enters the first.

    Raises:
        ValueError: if they do not.
    """
    if not layers:
        raise ValueError("layers must not be empty: got []. Pass at least one DenseLayer.")
    convolutions = [layer for layer in layers if isinstance(layer, ConvLayer)]
    tail = [layer for layer in layers if isinstance(layer, DenseLayer)]
    if not tail or list(layers) != [*convolutions, *tail]:
        names = [type(layer).__name__ for layer in layers]
        raise ValueError(f"layers must be convolutions, then dense layers: got {names}. Pass at least one of each.")
    shape: tuple[int, ...] = (width,)
    for i, layer in enumerate(layers):
        if isinstance(layer, ConvLayer):
            _check_convolution(i, layer, shape)
        elif layer.inputs != prod(shape):
            got = f"got {layer.inputs}. Match the outputs below it."
            raise ValueError(f"layer {i} must have {prod(shape)} inputs: {got}")
        if layer.activation not in CODES:
            raise ValueError(f"activation is unknown: got {layer.activation!r}. Choose one of {', '.join(CODES)}.")
        if not 0 <= layer.weight <= size - layer.inputs * layer.outputs or not 0 <= layer.bias <= size - layer.outputs:
            got = f"got weight at {layer.weight}, bias at {layer.bias}. Check P."
            raise ValueError(f"layer {i} must lie in a row of {size} floats: {got}")
        norm = (layer.norm_scale, layer.norm_shift)
        if norm != (-1, -1) and (min(norm) < 0 or max(norm) + layer.outputs > size):
            got = f"got norm at {norm}. Pass both, or -1 twice."
            raise ValueError(f"layer {i} must lie in a row of {size} floats: {got}")
        if not 0 <= layer.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and less than 1: got {layer.dropout}. Pass 0 for none.")
        if isinstance(layer, ConvLayer) and (layer.pool < 1 or min(layer.shape_above) < 1):
            raise ValueError(f"layer {i} must leave a pixel: got pool {layer.pool}. Pass a smaller one, 1 for none.")
        shape = layer.shape_above
    if tail[-1].dropout or tail[-1].width != tail[-1].outputs:
        got = f"dropout {tail[-1].dropout}, activation {tail[-1].activation!r}"
        raise ValueError(f"the last layer must give logits: got {got}. Pass neither dropout nor crelu there.")


def _check_convolution(i: int, layer: ConvLayer, below: tuple[int, ...]) -> None:
    got = (layer.channels, layer.height, layer.width)
    if i and got != below:
        raise ValueError(f"layer {i} must have inputs {below}: got {got}. Match the outputs below it.")
    if prod(got) != prod(below):
        raise ValueError(f"layer {i} must have {prod(below)} inputs: got {got}. Match the task's images.")
    if min(layer.kernel, layer.stride, layer.out_height, layer.out_width) < 1 or layer.padding < 0:
        got = f"got kernel {layer.kernel}, stride {layer.stride}, padding {layer.padding}"
        raise ValueError(f"layer {i} must have an output: {got}. Pass a smaller kernel or a larger padding.")


def check_keys(keys: Tensor | None, layers: Sequence[Layer], members: int) -> Tensor:
    """Checks the keys of the members' masks of dropout.

    Args:
        keys: `[M, 2]` int64, low and high 32 bits; or None.
        layers: of the network.
        members: M.

    Returns:
        The keys; zeros for None.

    Raises:
        TypeError: if they are no int64.
        ValueError: if they have another shape, more than 32 bits, or are None and a layer has dropout.
    """
    if keys is None:
        if any(layer.dropout for layer in layers):
            raise ValueError("keys must be given where a layer has dropout: got None. Pass one [M, 2] for each member.")
        return torch.zeros(members, 2, dtype=torch.int64)
    check("keys", keys, (members, 2), torch.int64)
    _check_range("keys", keys, 0, 1 << 32)
    return keys


def check_data(data: Data, members: int, classes: int) -> None:
    """Checks the tables of a task.

    Args:
        data: the task.
        members: M.
        classes: C.

    Raises:
        TypeError: if a table has the wrong dtype.
        ValueError: if shapes do not fit or an index lies outside.
    """
    n, inputs = data.rows.shape[1], data.scale.numel()
    check("images", data.images, (len(data.images), inputs), torch.uint8, torch.float32)
    for name, tensor in (("rows", data.rows), ("labels", data.labels)):
        check(name, tensor, (members, n), torch.int64)
    for name, tensor in (("scale", data.scale), ("shift", data.shift)):
        check(name, tensor, (inputs,), torch.float32)
    _check_range("rows", data.rows, 0, len(data.images))
    _check_range("labels", data.labels, 0, classes)
    if data.pixels is not None:
        check("pixels", data.pixels, (members, inputs), torch.int64)
        _check_range("pixels", data.pixels, 0, inputs)


def check_order(order: Tensor, members: int, examples: int) -> None:
    """Checks the minibatches of a call.

    Args:
        order: `[M, S, B]`.
        members: M.
        examples: N.

    Raises:
        TypeError: if it is no int64.
        ValueError: if it has another shape, an index lies outside or a batch is empty.
    """
    check("order", order, (members, *order.shape[1:]), torch.int64)
    _check_range("order", order, -1, examples)
    if order.numel() and int(order[:, :, 0].min()) < 0:
        raise ValueError("order must start every batch with an example: got -1. Leave out empty batches.")
