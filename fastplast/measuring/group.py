"""One probe time: every metric of every member, as columns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fastplast.config import ConfigError, Experiment
from fastplast.curvature import Curvature, Tail, measure, measure_block
from fastplast.curvature.exact import MEMORY_LIMIT
from fastplast.engines.base import Group, GroupState
from fastplast.machine.profiling import annotated
from fastplast.measuring import probes
from fastplast.methods import Pull
from fastplast.networks import AnyNetwork, ModuleNetwork, Network
from fastplast.problems import Task

Column = Sequence[float | int | bool | str | None]

MAX_BLOCK = 6000  # parameters of a dense Hessian: 0.3 GB a member in float64
MAX_CLOSED_BLOCK = 20_000  # where the closed form leaves out what is silent, and a route that certifies may be taken
_MEMBERS_AT_ONCE = 16  # bounds the memory of tails and Hessians


@dataclass(frozen=True)
class Measurement:
    """What a probe time gives.

    Attributes:
        columns: metric to `[M]` values; None where a member has none.
        eigenvalues: of each member's Hessian, or None where it was not measured.
        seconds: by kind of measurement.
        member_seconds: of each member's Hessian, or None where it was not measured.
    """

    columns: dict[str, Column]
    eigenvalues: list[Tensor] | None
    seconds: dict[str, float]
    member_seconds: list[float] | None

    def expected(self, before: Tensor) -> Tensor:
        """Stable ranks to expect at the next measurement: those found here, or before where there is none.

        Args:
            before: `[M]` int64.

        Returns:
            `[M]` int64.
        """
        found = self.columns.get("hessian_srank", [None] * len(before))
        return torch.tensor([old if new is None else int(new) for new, old in zip(found, before.tolist())])


def due(task: int, every: int) -> bool:
    """Whether a measurement made every so many tasks is made at this one."""
    return task % every == 0


def block_names(network: AnyNetwork) -> tuple[str, ...]:
    """The parameters of the Hessian block: weights and biases of the last two layers.

    Of a user's module: its last two parameters of two or more dimensions, and everything from the first of them on.

    Args:
        network: of a group.

    Returns:
        Names in the layout.
    """
    names = [slot.name for slot in network.layout.slots]
    weights = [i for i, slot in enumerate(network.layout.slots) if slot.is_weight]
    return tuple(names[weights[-2] if len(weights) > 1 else 0 :])


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
    most = MAX_CLOSED_BLOCK if network.has_closed_tail and experiment.srank_method != "exact" else MAX_BLOCK
    if size > most:
        raise ConfigError(
            f"--srank {experiment.srank} needs a Hessian block of at most {most:,} parameters: the last two "
            f"layers of {network.name} have {size:,}. Use --srank off or narrower --widths."
        )


def _block_size(network: AnyNetwork) -> int:
    return sum(network.layout[name].count for name in block_names(network))


def _memory_limit(network: AnyNetwork) -> int:
    """Bytes for the matrices of the Hessians being worked on: at least enough for one."""
    return max(MEMORY_LIMIT, 4 * 8 * _block_size(network) ** 2)


def measure_group(
    group: Group,
    state: GroupState,
    task: Task,
    pull: Pull,
    *,
    with_probes: bool,
    with_hessian: bool,
    with_weights: bool = True,
    method: str = "auto",
    expected: Tensor | None = None,
) -> Measurement:
    """Measures every member of a group on a task.

    Args:
        group: what is measured.
        state: its state.
        task: on whose examples.
        pull: its regulariser.
        with_probes: whether to measure features and weights.
        with_hessian: whether to measure curvature.
        with_weights: whether weights may have changed since they were last measured.
        method: of measuring curvature, as ``curvature.measure`` takes it.
        expected: `[M]` stable ranks expected, negative where there is none; they decide what is tried first.

    Returns:
        Columns of `[M]` values.
    """
    started = time.perf_counter()
    rows: list[dict[str, float]] = []
    tails: list[Tensor] = []
    curvature: list[Curvature] = []
    seconds = {"probes": 0.0, "hessian": 0.0}
    for member in range(len(group.members)):
        found = probes.evaluate(group.network, state.params[member], task, member)
        row = {"loss": found.loss, "error": found.error}
        row |= probes.test_columns(group.network, state.params[member], task, member)
        if with_probes:
            row |= probes.data_columns(found)
        if with_probes and with_weights:
            row |= probes.weight_columns(state.params[member], state.init[member], group.layout)
        rows.append(row)
        if with_hessian and group.network.has_closed_tail:
            tails.append(found.tail_inputs)
            if len(tails) == _MEMBERS_AT_ONCE or member == len(group.members) - 1:
                clock = time.perf_counter()
                members = slice(member + 1 - len(tails), member + 1)
                tail = tail_of(group.network, state.params[members], task.labels[members], tails)
                hint = None if expected is None else expected[members]
                with annotated("srank"):
                    measured = measure(tail, method=method, hint=hint, memory_limit=_memory_limit(group.network))
                curvature.append(measured)
                seconds["hessian"] += time.perf_counter() - clock
                tails = []
        elif with_hessian and not isinstance(group.network, ModuleNetwork):
            clock = time.perf_counter()
            labels = task.labels[member]
            with annotated("srank"):
                curvature.append(_measure_tail(group.network, state.params[member], labels, found.tail_inputs))
            seconds["hessian"] += time.perf_counter() - clock
    if with_hessian and isinstance(group.network, ModuleNetwork):
        clock = time.perf_counter()
        with annotated("srank"):
            curvature.append(_measure_module(group.network, state, task))
        seconds["hessian"] = time.perf_counter() - clock
    columns: dict[str, Column] = {name: [row[name] for row in rows] for name in rows[0]}
    if pull.active:
        columns["penalty"] = pull.penalty(state.params).tolist()
    columns |= _curvature_columns(curvature)
    seconds["probes"] = time.perf_counter() - started - seconds["hessian"]
    eigenvalues = [e for part in curvature for e in part.eigenvalues] if curvature else None
    member_seconds = [s for part in curvature for s in part.seconds.tolist()] if curvature else None
    return Measurement(columns, eigenvalues, seconds, member_seconds)


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


def _measure_tail(network: Network, row: Tensor, labels: Tensor, inputs: Tensor) -> Curvature:
    """The Hessian block of a tail without a closed form, of one member, by Hessian-vector products."""
    slots = [network.layout[name] for name in block_names(network)]
    inputs = inputs.double()

    def loss(block: Tensor) -> Tensor:
        pieces = block.split([slot.count for slot in slots])
        parameters = {slot.name: piece.reshape(slot.shape) for slot, piece in zip(slots, pieces)}
        return functional.cross_entropy(network.run(network.layers[-2:], parameters, inputs)[0], labels)

    return measure_block([loss], torch.cat([row[slot.slice].double() for slot in slots]).unsqueeze(0))


def _measure_module(network: ModuleNetwork, state: GroupState, task: Task) -> Curvature:
    """The Hessian block of a user's module, by Hessian-vector products."""
    slots = [network.layout[name] for name in block_names(network)]
    network.train(False)
    losses, blocks = [], []
    for member, row in enumerate(state.params.to(network.measuring_dtype)):
        x, y = probes.member_inputs(task, member).to(row.dtype), task.labels[member]

        def loss(block: Tensor, row: Tensor = row, x: Tensor = x, y: Tensor = y) -> Tensor:
            pieces, start, end = [], 0, 0
            for slot in slots:
                pieces += [row[end : slot.offset], block[start : start + slot.count]]
                start, end = start + slot.count, slot.offset + slot.count
            return functional.cross_entropy(network.logits(torch.cat([*pieces, row[end:]]), x), y)

        losses.append(loss)
        blocks.append(torch.cat([row[slot.slice] for slot in slots]))
    return measure_block(losses, torch.stack(blocks))


def _curvature_columns(parts: list[Curvature]) -> dict[str, Column]:
    if not parts:
        return {}
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
