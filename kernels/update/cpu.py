"""The optimiser step of many members on the cores of a CPU: `reference.update` and the pull in one pass over a member.

Written with plain tensors, a step of Adam reads and writes memory about twenty times; here gradients, parameters and
moments are read once. What is new waits beside the member's row, in cache, until all of it is known to be finite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from fastplast_kernels import workers
from fastplast_kernels.compilation import called, compiled
from fastplast_kernels.optimisers import (
    DECAY,
    EPSILON,
    KEEP,
    NEW1,
    NEW2,
    OLD1,
    OLD2,
    PULL,
    RATE,
    ROOT,
    Hyperparameters,
    coefficients,
)
from fastplast_kernels.workers import WORTH_A_THREAD, flush_denormals, restore_denormals, take
from llvmlite import ir
from numba import carray
from numba.core import types
from numba.extending import intrinsic
from torch import Tensor

CHUNK = 128  # weights at a time, and float64 sums of a member: in one order on every CPU, none waiting for the next


@intrinsic
def _floats_at(typingctx, address):
    """A pointer to float32 numbers from its value as an integer."""

    def codegen(context, builder, sig, args):
        return builder.inttoptr(args[0], ir.FloatType().as_pointer())

    return types.CPointer(types.float32)(types.int64), codegen


@called
def _part(parts, i, member):
    """Gradient of a member with respect to part i of its row; a row of the table is address, place in a row, count."""
    return carray(_floats_at(parts[i, 0] + 4 * member * parts[i, 2]), parts[i, 2])


@called
def _gather(parts, first, member, begin, out):
    """Gradient from `begin` on, in which more parts than one have a share; zero in between."""
    for k in range(out.size):
        out[k] = 0.0
    i = first
    while i < parts.shape[0] and parts[i, 1] < begin + out.size:
        part, offset = _part(parts, i, member), parts[i, 1] - begin
        for k in range(max(0, -offset), min(part.size, out.size - offset)):
            out[offset + k] = part[k]
        i += 1


@called
def _gradient(g, w, q, factor, c, out):
    """Gradient with the pull and coupled decay."""
    for i in range(g.size):
        out[i] = g[i] + (w[i] - q[i]) * (c[PULL] * factor[i]) + c[DECAY] * w[i]


@called
def _adam(g, w, m, v, c, new_w, new_m, new_v):
    for i in range(g.size):
        first = m[i] + c[NEW1] * (g[i] - m[i])
        second = c[OLD2] * v[i] + c[NEW2] * (g[i] * g[i])
        new_m[i], new_v[i] = first, second
        new_w[i] = c[KEEP] * w[i] - c[RATE] * (first / (np.sqrt(second) / c[ROOT] + c[EPSILON]))


@called
def _sgd(g, w, m, c, new_w, new_m):
    for i in range(g.size):
        first = c[OLD1] * m[i] + g[i]
        new_m[i] = first
        new_w[i] = c[KEEP] * w[i] - c[RATE] * first


@called
def _add_change(w, new_w, l1, l2):
    for i in range(w.size):
        change = np.float64(np.float32(new_w[i] - w[i]))
        l1[i] += abs(change)
        l2[i] += change * change


@called
def _row(w, m, v, parts, member, q, factor, c, adam, pulled, new, sums):
    """Writes new parameters and moments of a member to `new`; returns sum of |change| and sum of its squares."""
    regularised, whole = pulled or c[DECAY] != np.float32(0.0), sums[2].view(np.float32)
    gathered = sums[3].view(np.float32)
    for i in range(CHUNK):
        sums[0, i], sums[1, i] = 0.0, 0.0
    first = 0
    for begin in range(0, w.size, CHUNK):
        end = min(begin + CHUNK, w.size)
        while first + 1 < parts.shape[0] and parts[first, 1] + parts[first, 2] <= begin:
            first += 1
        own, offset = w[begin:end], begin - parts[first, 1]
        if offset >= 0 and offset + own.size <= parts[first, 2]:
            gradient = _part(parts, first, member)[offset : offset + own.size]
        else:
            gradient = gathered[: own.size]
            _gather(parts, first, member, begin, gradient)
        if regularised:
            target = q[begin:end] if pulled else own
            _gradient(gradient, own, target, factor[begin:end], c, whole[: own.size])
            gradient = whole[: own.size]
        if adam:
            moments = m[begin:end], v[begin:end]
            _adam(gradient, own, *moments, c, new[0, begin:end], new[1, begin:end], new[2, begin:end])
        else:
            _sgd(gradient, own, m[begin:end], c, new[0, begin:end], new[1, begin:end])
        _add_change(own, new[0, begin:end], sums[0], sums[1])
    l1, l2 = 0.0, 0.0
    for i in range(CHUNK):
        l1 += sums[0, i]
        l2 += sums[1, i]
    return l1, l2


@called
def _copy(source, target):
    for i in range(source.size):
        target[i] = source[i]


@compiled
def _rows(params, m, v, parts, target, factor, table, active, adam, norms, counter, new, sums):
    control = flush_denormals()
    row = take(counter)
    while row < params.shape[0]:
        if active[row]:
            pulled = table[row, PULL] != np.float32(0.0)
            q = target[row] if pulled else params[row]
            l1, l2 = _row(params[row], m[row], v[row], parts, row, q, factor, table[row], adam, pulled, new, sums)
            norms[row, 0], norms[row, 1] = l1, math.sqrt(l2)
            if math.isfinite(l1):
                _copy(new[0], params[row])
                _copy(new[1], m[row])
                if adam:
                    _copy(new[2], v[row])
        row = take(counter)
    restore_denormals(control)


def update_in_place(
    params: Tensor,
    m: Tensor,
    v: Tensor,
    grads: Mapping[int, Tensor],
    steps: Tensor,
    active: Tensor,
    hyper: Hyperparameters,
    optimizer: str,
    decoupled: bool,
    target: Tensor | None = None,
    factor: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`reference.update` of the gradient plus `reference.pull_gradient`, in place, where the result is finite.

    A member's bits do not depend on the others or on the number of threads, which is PyTorch's. Numbers below 1.2e-38
    count as zero.

    Args:
        params: `[M, P]` float32, contiguous. So are the next three.
        m: first moment, or the momentum buffer of ``sgd``.
        v: second moment; untouched by ``sgd``.
        grads: of the loss: where in a row a part begins to its gradient, `[M, ...]` float32, in order. Zero elsewhere.
        steps: `[M]` int64, number of this update for each member, from 1.
        active: `[M]` bool, members to update.
        hyper: hyperparameters.
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        decoupled: whether weight decay shrinks the weights directly.
        target: `[M, P]`, what weights are pulled to; None for no pull, whatever the strength.
        factor: `[P]`, of the pull; None for no pull.

    Returns:
        L1 and L2 norm of each member's change, `[M]` float64; 0 of members that are not active. Where the first is not
        finite the member is as it was.
    """
    norms, size = torch.zeros(len(params), 2, dtype=torch.float64), params.shape[1]
    if target is None:
        hyper = hyper._replace(strength=torch.zeros_like(hyper.strength))
    table = coefficients(hyper, steps, optimizer, decoupled)
    kept = {offset: grad.contiguous() for offset, grad in grads.items()}
    parts = torch.tensor([[grad.data_ptr(), offset, grad[0].numel()] for offset, grad in kept.items()])
    arguments = [params, m, v, parts, params if target is None else target.contiguous()]
    arguments += [params[0] if factor is None else factor, table, active]
    arrays = [tensor.detach().numpy() for tensor in arguments]

    def work(counter: np.ndarray, thread: int) -> None:
        new, sums = np.empty((3, size), np.float32), np.empty((4, CHUNK))
        _rows(*arrays, optimizer != "sgd", norms.numpy(), counter, new, sums)

    threads = min(torch.get_num_threads(), 1 + params.numel() // WORTH_A_THREAD)
    workers.run(work, len(params), threads)
    return norms[:, 0], norms[:, 1]
