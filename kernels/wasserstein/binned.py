"""Targets without a sort, by choice: the weights of a bin share the mean of the initial weights of their ranks.

A weight's bin comes from the map of `gpu`, with more and smaller buckets. From the counts of the bins follow the first
and last rank of each, lo and hi - 1. Exact ranks in the bin lie between them, so that
``|q - q_exact| <= Q0[hi - 1] - Q0[lo]``; the largest over all bins of a row is its reported bound. The penalty pulls
the bin's mean where the exact one would, at the cost of one atomic addition and one read of a small table per weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
import triton
import triton.language as tl
from fastplast_kernels.wasserstein import gpu
from fastplast_kernels.wasserstein.buckets import tiles
from fastplast_kernels.wasserstein.gpu import bucket_of, is_finite, layer_offset, layer_row, new_map, ordered
from torch import Tensor

BINS = 4096  # of a row, or as many as it has weights


@triton.jit
def count_bin(w, mask, map_ptr, count_ptr, num_bins, SHIFT: tl.constexpr):
    """Counts new weights in the bins of their row; what `gpu.insert` is to exact ranks."""
    mask = mask & is_finite(w)
    b = bucket_of(tl.where(mask, ordered(w), 0), map_ptr, num_bins, SHIFT)
    tl.atomic_add(count_ptr + b, 1, mask=mask, sem="relaxed")


@triton.jit
def binned_target(w, mask, map_ptr, value_ptr, num_bins, SHIFT: tl.constexpr):
    """Targets of weights that were counted before the last scan, with the map that they were counted with."""
    b = bucket_of(tl.where(mask & is_finite(w), ordered(w), 0), map_ptr, num_bins, SHIFT)
    return tl.load(value_ptr + b, mask=mask, other=0.0)


@triton.jit
def count_kernel(
    w_ptr, layers_ptr, tiles_ptr, map_ptr, count_ptr, member_stride, num_layers, member_buckets,
    NUM_CELLS: tl.constexpr, SHIFT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Counts where no update does; program (block of a layer, member)."""
    layer = tl.load(tiles_ptr + 2 * tl.program_id(0))
    index = tl.load(tiles_ptr + 2 * tl.program_id(0) + 1) * BLOCK + tl.arange(0, BLOCK)
    member = tl.program_id(1).to(tl.int64)
    offset, length = layer_offset(layers_ptr, layer, False)
    num_bins, first, row = layer_row(layers_ptr, layer, member, num_layers, member_buckets)
    w = tl.load(w_ptr + member * member_stride + offset + index, mask=index < length, other=0.0)
    count_bin(w, index < length, map_ptr + row * (NUM_CELLS + 1), count_ptr + first, num_bins, SHIFT)


@triton.jit
def map_kernel(
    layers_ptr, map_ptr, histogram_ptr, num_layers, member_buckets, NUM_CELLS: tl.constexpr, BLOCK: tl.constexpr
):
    """Makes the map of a row from its histogram; program (layer, member)."""
    layer = tl.program_id(0)
    member = tl.program_id(1).to(tl.int64)
    _, length = layer_offset(layers_ptr, layer, False)
    num_bins, _, row = layer_row(layers_ptr, layer, member, num_layers, member_buckets)
    new_map(map_ptr + row * (NUM_CELLS + 1), histogram_ptr + row * NUM_CELLS, num_bins, length, NUM_CELLS, BLOCK)


@triton.jit
def value_kernel(
    init_ptr, prefix_ptr, layers_ptr, count_ptr, value_ptr, bound_ptr, ranked_ptr,
    member_stride, num_layers, member_buckets, BLOCK: tl.constexpr,
):  # fmt: skip
    """Means of Q0 over the ranks of each bin, and the bound; program (layer, member). Counters are zeroed."""
    layer = tl.program_id(0)
    member = tl.program_id(1).to(tl.int64)
    offset, length = layer_offset(layers_ptr, layer, False)
    num_bins, first, row = layer_row(layers_ptr, layer, member, num_layers, member_buckets)
    init_ptr += member * member_stride + offset
    prefix_ptr += member * member_stride + offset
    total = 0
    bound = 0.0
    for start in range(0, num_bins, BLOCK):
        here = start + tl.arange(0, BLOCK)
        count = tl.load(count_ptr + first + here, mask=here < num_bins, other=0)
        tl.debug_barrier()  # a thread may zero what another has yet to read
        tl.store(count_ptr + first + here, 0, mask=here < num_bins)
        last = total + tl.cumsum(count, 0) - 1
        full = count > 0
        low = tl.load(init_ptr + last - count + 1, mask=full, other=0.0)
        high = tl.load(init_ptr + last, mask=full, other=0.0)
        before = tl.load(prefix_ptr + last - count, mask=full & (last >= count), other=0.0)
        mean = (tl.load(prefix_ptr + last, mask=full, other=0.0) - before) / tl.maximum(count, 1).to(tl.float64)
        tl.store(value_ptr + first + here, tl.minimum(tl.maximum(mean.to(tl.float32), low), high), mask=full)
        bound = tl.maximum(bound, tl.max(high - low, 0))
        total += tl.sum(count, 0)
    tl.store(bound_ptr + row, bound)
    tl.store(ranked_ptr + row, (total == length).to(tl.int32))


@triton.jit
def target_kernel(
    w_ptr, q_ptr, layers_ptr, tiles_ptr, map_ptr, value_ptr, ranked_ptr, member_stride, num_layers, member_buckets,
    NUM_CELLS: tl.constexpr, SHIFT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Writes targets where no update reads them; program (block of a layer, member)."""
    layer = tl.load(tiles_ptr + 2 * tl.program_id(0))
    index = tl.load(tiles_ptr + 2 * tl.program_id(0) + 1) * BLOCK + tl.arange(0, BLOCK)
    member = tl.program_id(1).to(tl.int64)
    offset, length = layer_offset(layers_ptr, layer, False)
    num_bins, first, row = layer_row(layers_ptr, layer, member, num_layers, member_buckets)
    if tl.load(ranked_ptr + row) == 0:
        return
    mask = index < length
    start = member * member_stride + offset
    w = tl.load(w_ptr + start + index, mask=mask, other=0.0)
    q = binned_target(w, mask, map_ptr + row * (NUM_CELLS + 1), value_ptr + first, num_bins, SHIFT)
    tl.store(q_ptr + start + index, q, mask=mask)


@dataclass(frozen=True)
class Bins:
    """Buffers of the rows `[M, L]`; see `buckets.Buckets`.

    Attributes:
        layers: `[L, 4]` int64.
        blocks: `[T, 2]` int32.
        prefix: `[M, stride]` float64, sums of Q0 up to each rank, by layer.
        map: `[M, L, NUM_CELLS + 1]` float32.
        histogram: `[M, L, NUM_CELLS]` int32, zero between uses.
        count: `[M, bins]` int32, zero between steps.
        value: `[M, bins]` float32, target of each bin.
        bound: `[M, L]` float32, no target is further than this from the exact one.
        ranked: `[M, L]` int32, whether every weight of the row was finite.
    """

    layers: Tensor
    blocks: Tensor
    prefix: Tensor
    map: Tensor
    histogram: Tensor
    count: Tensor
    value: Tensor
    bound: Tensor
    ranked: Tensor

    @property
    def strides(self) -> tuple[int, int, int]:
        """Parameters of a member, layers, bins of a member."""
        return self.prefix.shape[1], self.layers.shape[0], self.count.shape[1]


def allocate(sorted_init: Tensor, layers: Sequence[tuple[int, int]]) -> Bins:
    """Buffers for weights like `sorted_init`.

    Args:
        sorted_init: `[M, stride]` float32, ascending within each layer.
        layers: offset and length of each.

    Returns:
        The buffers.
    """
    members, device = sorted_init.shape[0], sorted_init.device
    sizes = [min(BINS, length) for _, length in layers]
    rows = [(offset, n, size, sum(sizes[:i])) for i, ((offset, n), size) in enumerate(zip(layers, sizes))]
    prefix = torch.zeros(sorted_init.shape, dtype=torch.float64, device=device)
    for offset, n in layers:
        prefix[:, offset : offset + n] = sorted_init[:, offset : offset + n].double().cumsum(1)

    def zeros(*size: int, dtype: torch.dtype = torch.int32) -> Tensor:
        return torch.zeros(members, *size, dtype=dtype, device=device)

    return Bins(
        layers=torch.tensor(rows, dtype=torch.int64).to(device),
        blocks=tiles([ceil(length / gpu.BLOCK) for _, length in layers], device),
        prefix=prefix,
        map=zeros(len(layers), gpu.NUM_CELLS + 1, dtype=torch.float32),
        histogram=zeros(len(layers), gpu.NUM_CELLS),
        count=zeros(sum(sizes)),
        value=zeros(sum(sizes), dtype=torch.float32),
        bound=zeros(len(layers), dtype=torch.float32),
        ranked=zeros(len(layers)),
    )


def warm_up(bins: Bins, w: Tensor) -> None:
    """Makes the maps from the distribution of `w`: two launches, at the start and when bounds have grown too wide."""
    stride, num_layers, member_bins = bins.strides
    gpu.histogram_kernel[bins.blocks.shape[0], w.shape[0]](
        w, bins.layers, bins.blocks, bins.histogram, stride, num_layers,
        NUM_CELLS=gpu.NUM_CELLS, SHIFT=gpu.SHIFT, BLOCK=gpu.BLOCK, **gpu.OPTIONS,
    )  # fmt: skip
    map_kernel[num_layers, w.shape[0]](
        bins.layers, bins.map, bins.histogram, num_layers, member_bins,
        NUM_CELLS=gpu.NUM_CELLS, BLOCK=gpu.BLOCK, **gpu.OPTIONS,
    )  # fmt: skip


def count(bins: Bins, w: Tensor) -> None:
    """Counts `w` in its bins where no update did: one launch."""
    count_kernel[bins.blocks.shape[0], w.shape[0]](
        w, bins.layers, bins.blocks, bins.map, bins.count, *bins.strides,
        NUM_CELLS=gpu.NUM_CELLS, SHIFT=gpu.SHIFT, BLOCK=gpu.BLOCK, **gpu.OPTIONS,
    )  # fmt: skip


def scan(bins: Bins, sorted_init: Tensor) -> None:
    """Target of every bin, and the bounds: one launch."""
    value_kernel[bins.layers.shape[0], sorted_init.shape[0]](
        sorted_init, bins.prefix, bins.layers, bins.count, bins.value, bins.bound, bins.ranked, *bins.strides,
        BLOCK=gpu.BLOCK, **gpu.OPTIONS,
    )  # fmt: skip


def target(bins: Bins, w: Tensor, q: Tensor) -> None:
    """Writes the targets of counted weights to `q` `[M, stride]`, except in rows that are not finite: one launch."""
    target_kernel[bins.blocks.shape[0], w.shape[0]](
        w, q, bins.layers, bins.blocks, bins.map, bins.value, bins.ranked, *bins.strides,
        NUM_CELLS=gpu.NUM_CELLS, SHIFT=gpu.SHIFT, BLOCK=gpu.BLOCK, **gpu.OPTIONS,
    )  # fmt: skip


CONFIGURATIONS = {
    "wasserstein/binned_count": gpu.configuration(count_kernel),
    "wasserstein/binned_map": gpu.configuration(map_kernel),
    "wasserstein/binned_value": gpu.configuration(value_kernel),
    "wasserstein/binned_target": gpu.configuration(target_kernel),
}
