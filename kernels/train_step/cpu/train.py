"""Training of many networks on the cores of a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from fastplast_kernels import workers
from fastplast_kernels.cores import available_cores
from fastplast_kernels.optimisers import Hyperparameters
from fastplast_kernels.train_step import actions as acts
from fastplast_kernels.train_step.actions import Actions, check_actions
from fastplast_kernels.train_step.arguments import (
    Data,
    Span,
    Sums,
    check,
    check_data,
    check_keys,
    check_layers,
    check_order,
    check_span,
    whole_span,
)
from fastplast_kernels.train_step.cpu import step
from fastplast_kernels.train_step.cpu.plan import plan
from fastplast_kernels.train_step.cpu.records import Acting, Arena, Examples, Run, Watch
from fastplast_kernels.train_step.cpu.simd import has_wide_registers
from fastplast_kernels.train_step.layers import ConvLayer, Layer
from fastplast_kernels.train_step.units import KINDS, PARTS, SETTINGS, Units, check_units
from torch import Tensor

OPTIMIZERS = "adam", "adamw", "sgd"

# Fraction of pixels that are not zero up to which it pays to leave out those that are.
SPARSE_UP_TO = 0.5 if has_wide_registers() else 0.75
_LOOKED_AT = 64  # images


def train(
    params: Tensor,
    m: Tensor,
    v: Tensor,
    steps: Tensor,
    diverged: Tensor,
    layers: Sequence[Layer],
    data: Data,
    order: Tensor,
    hyper: Hyperparameters,
    optimizer: str = "adam",
    decoupled: bool = False,
    anchor: Tensor | None = None,
    ranked: Tensor | None = None,
    keys: Tensor | None = None,
    threads: int | None = None,
    since: Tensor | None = None,
    span: Span | None = None,
    units: Units | None = None,
    actions: Actions | None = None,
    parts: int | None = None,
) -> Sums:
    """Trains `M` networks, one update for each of `S` minibatches, changing the first five arguments in place.

    Forward pass, cross-entropy, backward pass, pull and optimiser are those of ``reference.train``. A member's bits do
    not depend on the others, on the number of threads, on how the steps are split into calls or on the CPU. A member
    whose batch loss is not finite, or whose update has an L1 norm that is not finite, is left as it was before that
    update.

    Args:
        params: `[M, P]` float32, contiguous.
        m: `[M, P]` float32, first moments, or the momentum buffers of ``sgd``.
        v: `[M, P]` float32, second moments; not touched by ``sgd``.
        steps: `[M]` int64, updates made so far.
        diverged: `[M]` int64, the update (from 0) before which a member was frozen; -1 for one in good health.
        layers: input to output; any convolutions, then one or more dense layers, the first of which sees the last image
            flattened, channels first.
        data: the task.
        order: `[M, S, B]` int64, positions among the member's examples; -1 from some position on ends a ragged batch.
        hyper: per member.
        optimizer: ``adam``, ``adamw`` (the same) or ``sgd``.
        decoupled: whether weight decay shrinks the weights directly or enters the gradient.
        anchor: `[M, P]` float32, what weights are pulled to; may be None if every strength is 0.
        ranked: `[M]` bool, members whose anchor holds the sorted targets of each layer's weights, dealt out by rank.
        keys: `[M, 2]` int64, of the members' masks, of ``dropout.dropout_mask``; may be None without dropout.
        threads: cores to use; None for all that this process may use.
        since: `[M]` int64, updates made when Adam's count of them began; None for 0.
        span: which updates each member makes, and where it stopped, changed in place; None for all.
        units: what is watched about units, changed in place, and when their weights were born; None for nothing.
        actions: what is done to parameters after each update, its parts changed in place; None for nothing.
        parts: E, equal parts of the `S` minibatches, such as epochs, whose sums are apart; None for one sum `[M]`.

    Returns:
        Sums over the updates of this call, `[M]`, or `[M, E]`.

    Raises:
        ValueError: if shapes, names or indices do not fit together.
        TypeError: if a tensor has the wrong dtype or is not contiguous.
    """
    members, size = params.shape
    ranked = torch.zeros(members, dtype=torch.bool) if ranked is None else ranked
    for name, tensor in (("params", params), ("m", m), ("v", v), ("anchor", params if anchor is None else anchor)):
        check(name, tensor, (members, size), torch.float32)
    for name, tensor in (("steps", steps), ("diverged", diverged)):
        check(name, tensor, (members,), torch.int64)
    check("ranked", ranked, (members,), torch.bool)
    order = order.contiguous()
    check_layers(layers, size, data.scale.numel())
    keys = check_keys(keys, layers, members)
    check_data(data, members, layers[-1].shape_above[0])
    check_order(order, members, data.rows.shape[1])
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer is unknown: got {optimizer!r}. Choose one of {', '.join(OPTIMIZERS)}.")
    if anchor is None and bool((hyper.strength != 0).any()):
        raise ValueError("anchor must be given where a strength is not 0: got None. Pass the targets [M, P].")
    equal = 1 if parts is None else parts
    if equal < 1 or order.shape[1] % equal:
        raise ValueError(f"parts must divide the {order.shape[1]} minibatches: got {parts}.")
    sums = torch.zeros(members, equal, 5, dtype=torch.float64)
    table, sgd = torch.stack([value.double() for value in hyper], dim=1), optimizer == "sgd"
    since = torch.zeros_like(steps) if since is None else since
    span = whole_span(order) if span is None else span
    check_span(span, since, order)
    tensors = order, table, ranked, keys, steps, since, span.begin, span.end, diverged, sums
    run = Run(*(x.numpy() for x in tensors), max(order.shape[1] // equal, 1), decoupled, sgd)
    trainer = step.train if units is None and actions is None else step.watch
    watch = _watch(units, layers, members, span.due)
    acting = _acting(actions, len(layers), params, order.shape[1])
    moments, targets = m if sgd else v, params if anchor is None else anchor
    arena = Arena(*(x.view(-1).numpy() for x in (params, m, moments, targets)), size)
    threads = min(members, threads or available_cores())
    own = plan(tuple(layers), order.shape[2])
    largest = max(layer.inputs * layer.outputs for layer in layers) if bool(ranked.any()) else 0
    pulled = bool(((hyper.strength != 0) & ~ranked).any())
    copies, drawn = (0, 0) if actions is None else (actions.copies, size * actions.draws)
    scratch = [own.scratch(data.scale.numel(), largest, pulled, copies, drawn) for _ in range(threads)]
    tables, count = _examples(data, order, layers[0]), sum(layer.count for layer in layers)
    workers.run(
        lambda counter, i: trainer(own.network, arena, tables, run, watch, acting, count, counter, scratch[i]),
        members,
        threads,
    )
    count_of_updates, *others = (sums[:, 0] if parts is None else sums).unbind(-1)
    return Sums(count_of_updates.long(), *(x.contiguous() for x in others))


def _watch(units: Units | None, layers: Sequence[Layer], members: int, due: Tensor) -> Watch:
    """What is watched in tables; all of it empty without."""
    hidden = len(layers) - 1
    kind, row = np.full(members, -1), np.zeros(members, np.int64)
    settings, parts = np.zeros((members, SETTINGS)), np.zeros((len(KINDS), hidden, PARTS), np.int64)
    if units is None:
        return Watch(kind, row, settings, parts, np.zeros((members, 2, 0), np.int64), due.numpy())
    check_units(units, layers, members)
    for number, name in enumerate(KINDS):
        for watched in (one for one in units.watched if one.kind == name):
            rows = watched.members.numpy()
            kind[rows], row[rows] = number, np.arange(len(rows))
            settings[rows, : watched.settings.shape[1]] = watched.settings
            for layer, tensors in enumerate(watched.parts):
                parts[number, layer, : len(tensors)] = [tensor.data_ptr() for tensor in tensors]
    return Watch(kind, row, settings, parts, units.born.numpy(), due.numpy())


def _acting(actions: Actions | None, layers: int, params: Tensor, updates: int) -> Acting:
    """What is done to parameters in tables; all of it empty without."""
    members, size = params.shape
    kind, row = np.full(members, -1), np.zeros(members, np.int64)
    settings, of_layers = np.zeros((members, acts.SETTINGS)), np.zeros((members, layers))
    draws, parts = np.zeros(members, np.bool_), np.zeros((members, acts.PARTS), np.int64)
    if actions is None:
        init, keys = np.empty(0, np.float32), np.zeros((members, 0, 2), np.int64)
        return Acting(kind, row, settings, of_layers, draws, parts, init, size, keys)
    check_actions(actions, layers, (members, size), updates)
    for one in actions.acted:
        places = one.members.numpy()
        kind[places], row[places] = list(acts.KINDS).index(one.kind), one.rows
        settings[places, : one.settings.shape[1]], of_layers[places] = one.settings, one.of_layers
        draws[places], parts[places, : len(one.parts)] = one.draws, [part.data_ptr() for part in one.parts]
    init, keys = actions.init.view(-1).numpy(), actions.keys.numpy()
    return Acting(kind, row, settings, of_layers, draws, parts, init, size, keys)


def _examples(data: Data, order: Tensor, first: Layer) -> Examples:
    """A task's tables, as the kernels see them."""
    images, floats = data.images.numpy(), np.empty((0, 0), np.float32)
    if data.images.dtype == torch.float32:
        images, floats = np.empty((0, 0), np.uint8), images
    pixels = np.empty((0, 0), np.int64) if data.pixels is None else data.pixels.numpy()
    tables = [x.numpy() for x in (data.rows, data.labels)]
    return Examples(
        images, floats, *tables, pixels, data.scale.numpy(), data.shift.numpy(), _is_sparse(data, order, first)
    )


def _is_sparse(data: Data, order: Tensor, first: Layer) -> bool:
    """Whether it pays to leave out pixels that are zero, from a few images; results are the same."""
    if isinstance(first, ConvLayer) or not order.numel() or first.inputs > np.iinfo(np.uint16).max - 16:
        return False
    looked_at = data.images[data.rows[0, order[0].flatten()[:_LOOKED_AT].clamp(min=0)]]
    return not bool(data.shift.any()) and float((looked_at != 0).float().mean()) <= SPARSE_UP_TO
