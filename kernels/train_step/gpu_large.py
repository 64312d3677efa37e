"""Kernels that normalise large layers, which the one program per member of ``gpu.tail_kernel`` does not do."""

from __future__ import annotations

import triton
import triton.language as tl
from fastplast_kernels.dropout.gpu import STREAM_COLUMNS
from fastplast_kernels.train_step import gpu_norm
from fastplast_kernels.train_step.gpu import MEMBER_COLUMNS, MEMBER_LIMIT, MEMBER_OPEN, MEMBER_POSITION

_MEMBER, _STREAMS = tl.constexpr(MEMBER_COLUMNS), tl.constexpr(STREAM_COLUMNS)


@triton.jit
def normalise_kernel(
    params_ptr, values_ptr, order_ptr, members_ptr, layers_ptr, factors_ptr, extras_ptr, streams_ptr, layer,
    params_stride, values_stride, steps,
    CRELU: tl.constexpr, DROPOUT: tl.constexpr, BATCH: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """`gpu_norm.normalise` after ``gpu.forward_kernel``; program (BM examples, member). Arguments are those of both."""
    member = tl.program_id(1).to(tl.int64)
    members_ptr += _MEMBER * member
    at = tl.load(members_ptr + MEMBER_POSITION) + tl.load(members_ptr + MEMBER_OPEN)
    if at >= tl.load(members_ptr + MEMBER_LIMIT):
        return
    gpu_norm.normalise(
        params_ptr + member * params_stride, values_ptr + member * values_stride,
        order_ptr + (member * steps + at) * BATCH, layers_ptr, factors_ptr, extras_ptr, layer, tl.program_id(0) * BM,
        streams_ptr + _STREAMS * member, at, CRELU, DROPOUT, BATCH, BM, BN,
    )  # fmt: skip


@triton.jit
def normalise_backward_kernel(
    params_ptr, values_ptr, deltas_ptr, members_ptr, layers_ptr, factors_ptr, extras_ptr, layer,
    params_stride, values_stride, BATCH: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """`gpu_norm.normalise_backward` after ``gpu.backward_kernel``; program (BM examples, member)."""
    member = tl.program_id(1).to(tl.int64)
    if tl.load(members_ptr + _MEMBER * member + MEMBER_OPEN) == 0:
        return
    gpu_norm.normalise_backward(
        params_ptr + member * params_stride, values_ptr + member * values_stride, deltas_ptr + member * values_stride,
        layers_ptr, factors_ptr, extras_ptr, layer, tl.program_id(0) * BM, BATCH, BM, BN,
    )  # fmt: skip
