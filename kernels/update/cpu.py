"""The optimiser step of many members on the cores of a CPU: `reference.update` and the pull in one pass over a member.

Written with plain tensors, a step of Adam reads and writes memory about twenty times; here gradients, parameters and
moments are read once. To leave a member as it was where its change is not finite, they are read once more from cache:
new parameters wait there until all of them are known to be finite.
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
)
from fastplast_kernels.workers import WORTH_A_THREAD, flush_denormals, restore_denormals, take
from llvmlite import ir
from numba import carray
from numba.core import types
from numba.extending import intrinsic
from torch import Tensor

CHUNK = 128  # float64 sums of a member: in one order on every CPU, none waiting for the next
CHUNKS = 8
BLOCK = CHUNKS * CHUNK  # weights at a time


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
def _find(parts, begin):
    """The part that holds element `begin` of a row, or the last before it."""
    first = 0
    while first + 1 < parts.shape[0] and parts[first + 1, 1] <= begin:
        first += 1
    return first


@called
def _gradient(parts, member, begin, w, q, factor, c, pulled, out):
    """Gradient of the block of a row at `begin`, with the pull and coupled decay; `out` is memory for it."""
    first = _find(parts, begin)
    offset, end = begin - parts[first, 1], begin - parts[first, 1] + w.size
    if offset >= 0 and end <= parts[first, 2]:
        g = _part(parts, first, member)[offset:end]
    else:
        g = out
        _gather(parts, first, member, begin, g)
    if not pulled and c[DECAY] == np.float32(0.0):
        return g
    for i in range(w.size):
        out[i] = g[i] + (w[i] - q[i]) * (c[PULL] * factor[i]) + c[DECAY] * w[i]
    return out


@called
def _adam(g, w, m, v, c, new_w, in_one_pass):
    keep, new1, old2, new2, rate, root, epsilon = c[KEEP], c[NEW1], c[OLD2], c[NEW2], c[RATE], c[ROOT], c[EPSILON]
    for i in range(g.size):
        first = m[i] + new1 * (g[i] - m[i])
        second = old2 * v[i] + new2 * (g[i] * g[i])
        new_w[i] = keep * w[i] - rate * (first / (np.sqrt(second) / root + epsilon))
        if in_one_pass:
            m[i], v[i] = first, second


@called
def _sgd(g, w, m, c, new_w, in_one_pass):
    keep, old1, rate = c[KEEP], c[OLD1], c[RATE]
    for i in range(g.size):
        first = old1 * m[i] + g[i]
        new_w[i] = keep * w[i] - rate * first
        if in_one_pass:
            m[i] = first


@called
def _commit_adam(g, w, m, v, c, new_w):
    new1, old2, new2 = c[NEW1], c[OLD2], c[NEW2]
    for i in range(g.size):
        m[i] = m[i] + new1 * (g[i] - m[i])
        v[i] = old2 * v[i] + new2 * (g[i] * g[i])
        w[i] = new_w[i]


@called
def _commit_sgd(g, w, m, c, new_w):
    old1 = c[OLD1]
    for i in range(g.size):
        m[i] = old1 * m[i] + g[i]
        w[i] = new_w[i]


@called
def _add_change(w, new_w, l1, l2):
    """Adds element k of each chunk to sum k, chunk after chunk; of a whole block, sums wait in registers."""
    if w.size == BLOCK:
        for i in range(CHUNK):
            a, b = l1[i], l2[i]
            for k in range(CHUNKS):  # unrolled, as its length is known
                change = np.float64(np.float32(new_w[k * CHUNK + i] - w[k * CHUNK + i]))
                a += abs(change)
                b += change * change
            l1[i], l2[i] = a, b
        return
    for begin in range(0, w.size, CHUNK):
        for i in range(min(CHUNK, w.size - begin)):
            change = np.float64(np.float32(new_w[begin + i] - w[begin + i]))
            l1[i] += abs(change)
            l2[i] += change * change


@called
def _row(w, m, v, parts, member, q, factor, c, adam, pulled, in_one_pass, new_w, sums, gradient):
    """New parameters of a member to `new_w` or, at once, to their place; returns sums of |change| and change ** 2."""
    for i in range(CHUNK):
        sums[0, i], sums[1, i] = 0.0, 0.0
    for begin in range(0, w.size, BLOCK):
        end = min(begin + BLOCK, w.size)
        own, new = w[begin:end], new_w[: end - begin] if in_one_pass else new_w[begin:end]
        out = gradient[: own.size]
        g = _gradient(parts, member, begin, own, q[begin:end], factor[begin:end], c, pulled, out)
        if adam:
            _adam(g, own, m[begin:end], v[begin:end], c, new, in_one_pass)
        else:
            _sgd(g, own, m[begin:end], c, new, in_one_pass)
        _add_change(own, new, sums[0], sums[1])
        if in_one_pass:
            for i in range(own.size):
                own[i] = new[i]
    l1, l2 = 0.0, 0.0
    for i in range(CHUNK):
        l1 += sums[0, i]
        l2 += sums[1, i]
    return l1, l2


@called
def _commit(w, m, v, parts, member, q, factor, c, adam, pulled, new_w, gradient):
    """Writes new parameters, and moments, which cost less to form again than to keep: last ones, in cache, first."""
    for begin in range((w.size - 1) // BLOCK * BLOCK, -1, -BLOCK):
        end = min(begin + BLOCK, w.size)
        own, new = w[begin:end], new_w[begin:end]
        out = gradient[: own.size]
        g = _gradient(parts, member, begin, own, q[begin:end], factor[begin:end], c, pulled, out)
        if adam:
            _commit_adam(g, own, m[begin:end], v[begin:end], c, new)
        else:
            _commit_sgd(g, own, m[begin:end], c, new)


@compiled
def _rows(params, m, v, target, factor, table, active, parts, norms, adam, has_target, in_one_pass, counter, *scratch):
    new_w, sums, gradient = scratch
    control = flush_denormals()
    row = take(counter)
    while row < params.shape[0]:
        if active[row]:
            pulled = has_target and table[row, PULL] != np.float32(0.0)
            w, c, q = params[row], table[row], target[row] if pulled else params[row]
            l1, l2 = _row(w, m[row], v[row], parts, row, q, factor, c, adam, pulled, in_one_pass, new_w, sums, gradient)
            norms[row, 0], norms[row, 1] = l1, math.sqrt(l2)
            if not in_one_pass and math.isfinite(l1):
                _commit(w, m[row], v[row], parts, row, q, factor, c, adam, pulled, new_w, gradient)
        row = take(counter)
    restore_denormals(control)


def update_in_place(
    params: Tensor,
    m: Tensor,
    v: Tensor,
    grads: Mapping[int, Tensor],
    table: Tensor,
    active: Tensor,
    optimizer: str,
    target: Tensor | None = None,
    factor: Tensor | None = None,
    in_one_pass: bool = False,
) -> tuple[Tensor, Tensor]:
    """`reference.update` of the gradient plus `reference.pull_gradient`, in place, where the result is finite.

    A member's bits do not depend on the others or on the number of threads, which is PyTorch's. Numbers below 1.2e-38
    count as zero.

    Args:
        params: `[M, P]` float32, contiguous. So are the next three.
        m: first moment, or the momentum buffer of ``sgd``.
        v: second moment; untouched by ``sgd``.
        grads: of the loss: where in a row a part begins to its gradient, `[M, ...]` float32, in order. Zero elsewhere.
        table: `[M, 10]` float32, ``optimisers.coefficients`` of this update.
        active: `[M]` bool, members to update.
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        target: `[M, P]`, what weights are pulled to; None for no pull, whatever the strength.
        factor: `[P]`, of the pull; None for no pull.
        in_one_pass: write before all of a member's change is known, which takes two thirds of the time.

    Returns:
        L1 and L2 norm of each member's change, `[M]` float64; 0 of members that are not active. Where the first is not
        finite the member is as it was or, ``in_one_pass``, lost.
    """
    norms, size, has_target = torch.zeros(len(params), 2, dtype=torch.float64), params.shape[1], target is not None
    kept = {offset: grad.contiguous() for offset, grad in grads.items()}
    parts = np.array([[grad.data_ptr(), offset, grad.numel() // len(params)] for offset, grad in kept.items()])
    arguments = [params, m, v, params if target is None else target.contiguous()]
    arguments += [params[0] if factor is None else factor, table, active]
    arrays = [*(tensor.detach().numpy() for tensor in arguments), parts, norms.numpy()]

    def work(counter: np.ndarray, thread: int) -> None:
        new_w = np.empty(BLOCK if in_one_pass else size, np.float32)
        sums, gradient = np.empty((2, CHUNK)), np.empty(BLOCK, np.float32)
        _rows(*arrays, optimizer != "sgd", has_target, in_one_pass, counter, new_w, sums, gradient)

    threads = min(torch.get_num_threads(), 1 + params.numel() // WORTH_A_THREAD)
    workers.run(work, len(params), threads)
    return norms[:, 0], norms[:, 1]
