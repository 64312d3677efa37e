"""The Hessian block of a group: which parameters it is of, and its measurement."""

from __future__ import annotations

import torch
from torch import Tensor

from fastplast.config import ConfigError, Experiment
from fastplast.curvature import Curvature, Tail, measure, measure_block
from fastplast.curvature.exact import MEMORY_LIMIT
from fastplast.engines.base import GroupState
from fastplast.losses import LOSSES
from fastplast.measuring.measurement import Column
from fastplast.measuring.probes import member_inputs
from fastplast.networks import AnyNetwork, ModuleNetwork, Network, Slot
from fastplast.problems import Task

MAX_BLOCK = 6000  # parameters of a dense Hessian: 0.3 GB a member in float64
MAX_CLOSED_BLOCK = 20_000  # where the closed form leaves out what is silent, and a route that certifies may be taken


def block_names(network: AnyNetwork) -> tuple[str, ...]:
    """The parameters of the Hessian block: weights and biases of the last two layers.

    Of a user's module: the two parameters of two or more dimensions that its forward pass uses last, and everything
    that it uses from the first of them on, wherever they are registered.

    Args:
        network: of a group.

    Returns:
        Names, in the order of the layout.
    """
    names = [slot.name for slot in network.layout.slots]
    used = network.used if isinstance(network, ModuleNetwork) else names
    weights = [i for i, name in enumerate(used) if network.layout[name].is_weight]
    block = used[weights[-2] if len(weights) > 1 else 0 :]
    return tuple(name for name in names if name in block)


def check_block(network: AnyNetwork, experiment: Experiment) -> None:
    """Refuses a Hessian that no dense solver should be asked for.

    Args:
        network: of a group.
        experiment: its ``srank``.

    Raises:
        ConfigError: if the last two layers have too many parameters.
    """
    if experiment.srank == "off":
        return
    size = _block_size(network)
    is_closed = network.has_closed_tail and experiment.loss == "cross_entropy"
    most = MAX_CLOSED_BLOCK if is_closed and experiment.srank_method != "exact" else MAX_BLOCK
    if size > most:
        raise ConfigError(
            f"--srank {experiment.srank} needs a Hessian block of at most {most:,} parameters: the last two "
            f"layers of {network.name} have {size:,}. Use --srank off or narrower --widths."
        )


def _block_size(network: AnyNetwork) -> int:
    return sum(network.layout[name].count for name in block_names(network))


def tail_of(network: AnyNetwork, params: Tensor, labels: Tensor, inputs: list[Tensor]) -> Tail:
    """The last two dense layers of some members.

    Args:
        network: a built-in network.
        params: `[M, P]`.
        labels: `[M, N]`.
        inputs: `M` tensors `[N, I]`, what enters the last but one layer.

    Returns:
        The tail.
    """
    hidden, output = [layer.name for layer in network.layers][-2:]  # type: ignore[union-attr]
    views = network.layout.views(params)
    return Tail(
        inputs=torch.stack(inputs),
        hidden_weight=views[f"{hidden}.weight"],
        hidden_bias=views[f"{hidden}.bias"],
        output_weight=views[f"{output}.weight"],
        output_bias=views[f"{output}.bias"],
        labels=labels,
        activation=network.activation,
        negative_slope=network.slope,  # type: ignore[union-attr]
    )


def measure_tails(
    network: Network,
    params: Tensor,
    labels: Tensor,
    inputs: list[Tensor],
    method: str,
    hint: Tensor | None,
    loss: str = "cross_entropy",
) -> list[Curvature]:
    """The Hessian block of some members of a built-in network: in closed form, or by products where there is none.

    Args:
        network: of the group.
        params: `[M, P]`.
        labels: `[M, N]`.
        inputs: `M` tensors `[N, I]`, what enters the last but one layer.
        method: as ``curvature.measure`` takes it.
        hint: likewise.
        loss: name of the loss; the closed form is of cross-entropy.

    Returns:
        Their curvature, in order, in one part or more.
    """
    if not network.has_closed_tail or loss != "cross_entropy":
        return [_measure_by_products(network, params, labels, inputs, loss)]
    tail = tail_of(network, params, labels, inputs)
    return [measure(tail, method=method, hint=hint, memory_limit=_memory_limit(network))]


def measure_modules(network: ModuleNetwork, state: GroupState, task: Task) -> Curvature:
    """The Hessian block of every member that is a user's module, by Hessian-vector products.

    Args:
        network: of the group.
        state: of the group.
        task: on whose examples.

    Returns:
        Their curvature.
    """
    slots, mean = [network.layout[name] for name in block_names(network)], LOSSES[task.loss].mean
    network.train(False)
    losses, blocks = [], []
    for member, row in enumerate(state.params.to(network.measuring_dtype)):
        x, y = member_inputs(task, member).to(row.dtype), task.labels[member]

        running = {name: value.to(row.dtype) for name, value in state.running_of(member).items()}
        fixed = network.layout.views(row) | running

        def loss(block: Tensor, fixed: dict[str, Tensor] = fixed, x: Tensor = x, y: Tensor = y) -> Tensor:
            return mean(network.logits_of(fixed | _parts(slots, block), x), y)

        losses.append(loss)
        blocks.append(torch.cat([row[slot.slice] for slot in slots]))
    return measure_block(losses, torch.stack(blocks))


def _parts(slots: list[Slot], block: Tensor) -> dict[str, Tensor]:
    """The parameters in a block `[D]`, by name."""
    pieces = block.split([slot.count for slot in slots])
    return {slot.name: piece.view(slot.shape) for slot, piece in zip(slots, pieces)}


def hessian_columns(parts: list[Curvature]) -> dict[str, Column]:
    """Metrics of Hessians.

    Args:
        parts: curvature of the members, in order.

    Returns:
        Column to `[M]` values, None for members that could not be measured.
    """
    fields = {
        "hessian_srank": "srank",
        "hessian_srank_lo": "srank_lo",
        "hessian_srank_hi": "srank_hi",
        "hessian_zero": "zero",
        "hessian_sharpness": "sharpness",
        "hessian_nuclear_norm": "nuclear_norm",
        "hessian_frobenius_norm": "frobenius_norm",
        "hessian_trace": "trace",
        "hessian_negative_mass": "negative_mass",
        "hessian_overlap": "overlap",
        "hessian_dimension": "dimension",
        "hessian_depth": "depth",
        "hessian_trace_error": "trace_error",
        "hessian_frobenius_error": "frobenius_error",
        "hessian_assembly_error": "assembly_error",
    }
    finite = [ok for part in parts for ok in part.finite.tolist()]
    columns: dict[str, Column] = {}
    for column, field in fields.items():
        values = [value for part in parts for value in getattr(part, field).tolist()]
        columns[column] = [value if ok else None for value, ok in zip(values, finite)]
    names = [name for part in parts for name in part.method]
    columns["hessian_method"] = [name if ok else None for name, ok in zip(names, finite)]
    return columns


def _memory_limit(network: AnyNetwork) -> int:
    """Bytes for the matrices of the Hessians being worked on: at least enough for one."""
    return max(MEMORY_LIMIT, 4 * 8 * _block_size(network) ** 2)


def _measure_by_products(
    network: Network, params: Tensor, labels: Tensor, inputs: list[Tensor], kind: str
) -> Curvature:
    """The Hessian block of tails without a closed form, by Hessian-vector products."""
    slots, mean = [network.layout[name] for name in block_names(network)], LOSSES[kind].mean
    losses = []
    for x, y in zip((x.double() for x in inputs), labels):

        def loss(block: Tensor, x: Tensor = x, y: Tensor = y) -> Tensor:
            return mean(network.run(network.layers[-2:], _parts(slots, block), x)[0], y)

        losses.append(loss)
    return measure_block(losses, torch.cat([params[:, slot.slice].double() for slot in slots], dim=1))
