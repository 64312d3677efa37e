"""Training, whatever the layers of a network: from tensors to threads and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from fastplast_kernels import workers
from fastplast_kernels.cores import available_cores
from fastplast_kernels.mlp_step.arguments import (
    Data,
    Sums,
    check,
    check_data,
    check_keys,
    check_order,
    examples,
)
from fastplast_kernels.mlp_step.step import Arena, Run
from fastplast_kernels.optimisers import Hyperparameters
from torch import Tensor


class Plan(NamedTuple):
    """How a kernel goes about a network.

    Attributes:
        network: tables of the layers, for the kernel.
        layers: input to output.
        classes: logits of the last layer.
        count: true parameters of a member.
        largest: weights in the largest matrix.
        scratch: from P and the weights to be ranked at a time to the memory of one thread.
    """

    network: Any
    layers: Sequence[Any]
    classes: int
    count: int
    largest: int
    scratch: Callable[[int, int], Any]


def train(
    state: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    make_plan: Callable[[int], Plan],
    data: Data,
    order: Tensor,
    hyper: Hyperparameters,
    optimizer: str,
    decoupled: bool,
    anchor: Tensor | None,
    ranked: Tensor | None,
    keys: Tensor | None,
    threads: int | None,
    trainers: Mapping[str, Callable],
) -> Sums:
    """Trains members with the kernels of one kind of network; arguments and errors as for ``mlp_step.cpu.train``.

    Args:
        state: params, m, v `[M, P]`, steps and diverged `[M]`; changed in place.
        make_plan: from B to the plan of the layers, which it checks.
        data: the task.
        order: `[M, S, B]`.
        hyper: per member.
        optimizer: a key of ``trainers``.
        decoupled: kind of weight decay.
        anchor: `[M, P]` or None.
        ranked: `[M]` or None.
        keys: `[M, 2]` or None.
        threads: cores to use; None for all that this process may use.
        trainers: optimiser to kernel.

    Returns:
        Sums over the updates of this call.

    Raises:
        ValueError: if shapes, names or indices do not fit together.
        TypeError: if a tensor has the wrong dtype or is not contiguous.
    """
    params, m, v, steps, diverged = state
    members, size = params.shape
    ranked = torch.zeros(members, dtype=torch.bool) if ranked is None else ranked
    for name, tensor in (("params", params), ("m", m), ("v", v), ("anchor", params if anchor is None else anchor)):
        check(name, tensor, (members, size), torch.float32)
    for name, tensor, dtype in (
        ("steps", steps, torch.int64),
        ("diverged", diverged, torch.int64),
        ("ranked", ranked, torch.bool),
    ):
        check(name, tensor, (members,), dtype)
    order = order.contiguous()
    plan = make_plan(order.shape[2])
    keys = check_keys(keys, plan.layers, members)
    check_data(data, members, plan.classes)
    check_order(order, members, data.rows.shape[1])
    if optimizer not in trainers:
        raise ValueError(f"optimizer is unknown: got {optimizer!r}. Choose one of {', '.join(trainers)}.")
    if anchor is None and bool((hyper.strength != 0).any()):
        raise ValueError("anchor must be given where a strength is not 0: got None. Pass the targets [M, P].")
    sums = torch.zeros(members, 4, dtype=torch.float64)
    before, table = steps.clone(), torch.stack([value.double() for value in hyper], dim=1)
    run = Run(*(x.numpy() for x in (order, table, ranked, keys, steps, diverged, sums)), decoupled)
    moments, targets = v if optimizer != "sgd" else m, params if anchor is None else anchor
    arena = Arena(*(x.view(-1).numpy() for x in (params, m, moments, targets)), size)
    threads = min(members, threads or available_cores())
    scratch = [plan.scratch(size, plan.largest if bool(ranked.any()) else 0) for _ in range(threads)]
    tables, trainer = examples(data), trainers[optimizer]
    workers.run(
        lambda counter, i: trainer(plan.network, arena, tables, run, plan.count, counter, scratch[i]), members, threads
    )
    return Sums(steps - before, *sums.T.contiguous())
