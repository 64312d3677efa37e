"""Memory and launches of the bucketed rank in `gpu`: what a training loop on a GPU keeps and calls.

Every function only enqueues launches whose grids follow from the shapes, so all of it can be captured in a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import torch
from fastplast_kernels.wasserstein import gpu
from torch import Tensor


@dataclass(frozen=True)
class Buckets:
    """Buffers of the rows `[M, L]`, one row for each layer of each member.

    Attributes:
        layers: `[L, 4]` int64, columns as in `gpu`.
        blocks: `[T, 2]` int32, (layer, number) of every block of `gpu.BLOCK` weights.
        groups: `[G, 2]` int32, (layer, number) of every group of `gpu.ROWS` buckets.
        map: `[M, L, NUM_CELLS + 1]` float32.
        histogram: `[M, L, NUM_CELLS]` int32, zero between uses.
        refresh: `[M, L]` int32, 1 where `histogram` is to become `map`.
        count: `[M, buckets]` int32, zero between steps.
        base: `[M, buckets + L]` int32, first ranks, and at the end of each row how many were inserted.
        slab: `[M, buckets, CAPACITY]` int64, (value, index) of inserted weights in any order.
        spill_base: `[M, buckets]` int32, how many spilled from the buckets before.
        spill: `[M, stride]` int64, (value, index) of weights that found their bucket full.
        spill_bucket: `[M, stride]` int32, that bucket.
        spill_count: `[M, L]` int32, zero between steps.
        spilled: `[M, L]` int32.
        ranked: `[M, L]` int32, whether every weight of the row was finite and its q written.
        aligned: whether offsets, lengths and the stride are multiples of 4, so that updates may use vector loads.
    """

    layers: Tensor
    blocks: Tensor
    groups: Tensor
    map: Tensor
    histogram: Tensor
    refresh: Tensor
    count: Tensor
    base: Tensor
    slab: Tensor
    spill_base: Tensor
    spill: Tensor
    spill_bucket: Tensor
    spill_count: Tensor
    spilled: Tensor
    ranked: Tensor
    aligned: bool

    @property
    def strides(self) -> tuple[int, int, int]:
        """Arguments of every kernel: parameters of a member, layers, buckets of a member."""
        return self.spill.shape[1], self.layers.shape[0], self.count.shape[1]


def num_buckets(length: int) -> int:
    """Buckets of a row of `length` weights; a row that fits into one has one."""
    return 1 if length <= gpu.CAPACITY else ceil(length / gpu.MEAN)


def _tiles(counts: Sequence[int], device: torch.device) -> Tensor:
    """`[sum(counts), 2]` int32: (layer, number within the layer), which program does what when lengths differ."""
    numbers = [(layer, i) for layer, count in enumerate(counts) for i in range(count)]
    return torch.tensor(numbers, dtype=torch.int32).to(device)


@lru_cache(maxsize=256)
def _tables(layers: tuple[tuple[int, int], ...], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Layers, blocks and groups of `Buckets`, which nobody writes to.

    They are copied to a device once: while updates are captured, no copy may be waited for.
    """
    sizes = [num_buckets(length) for _, length in layers]
    rows = [(offset, n, size, sum(sizes[:i])) for i, ((offset, n), size) in enumerate(zip(layers, sizes))]
    return (
        torch.tensor(rows, dtype=torch.int64).to(device),
        _tiles([ceil(length / gpu.BLOCK) for _, length in layers], device),
        _tiles([ceil(size / gpu.ROWS) for size in sizes], device),
    )


def allocate(members: int, stride: int, layers: Sequence[tuple[int, int]], device: torch.device | str) -> Buckets:
    """Buffers for weights `[members, stride]`, ready for a cold start.

    Args:
        members: M.
        stride: parameters of a member.
        layers: offset and length of each layer to be ranked, in parameters of a member.
        device: of the weights.

    Returns:
        The buffers; about 13 bytes per weight for the slab, 12 for what may spill, 64 KiB per row for the maps.

    Raises:
        ValueError: If a layer is empty or does not lie within the member.
    """
    for offset, length in layers:
        if length < 1 or offset < 0 or offset + length > stride:
            raise ValueError(
                f"layers must be non-empty and lie within a member: got offset {offset} and length {length} of "
                f"{stride} parameters. Pass pairs (offset, length) with offset + length <= stride."
            )
    table, blocks, groups = _tables(tuple((offset, length) for offset, length in layers), torch.device(device))
    sizes = [num_buckets(length) for _, length in layers]
    shape = (members, len(layers))

    def empty(*size: int, dtype: torch.dtype = torch.int32) -> Tensor:
        return torch.empty(*size, dtype=dtype, device=device)

    buckets = Buckets(
        layers=table,
        blocks=blocks,
        groups=groups,
        map=empty(*shape, gpu.NUM_CELLS + 1, dtype=torch.float32),
        histogram=empty(*shape, gpu.NUM_CELLS),
        refresh=empty(*shape),
        count=empty(members, sum(sizes)),
        base=empty(members, sum(sizes) + len(layers)),
        slab=empty(members, sum(sizes), gpu.CAPACITY, dtype=torch.int64),
        spill_base=empty(members, sum(sizes)),
        spill=empty(members, stride, dtype=torch.int64),
        spill_bucket=empty(members, stride),
        spill_count=empty(*shape),
        spilled=empty(*shape),
        ranked=empty(*shape),
        aligned=not any(size % 4 for size in (stride, *(size for layer in layers for size in layer))),
    )
    clear(buckets)
    return buckets


def clear(buckets: Buckets) -> None:
    """Makes the buffers ready for a cold start, whatever happened before."""
    for tensor in (buckets.histogram, buckets.count, buckets.spill_count):
        tensor.zero_()
    buckets.refresh.fill_(1)


def warm_up(buckets: Buckets, w: Tensor) -> None:
    """Makes the maps from the distribution of `w` `[M, stride]`, after `clear`: two launches."""
    stride, num_layers, _ = buckets.strides
    gpu.histogram_kernel[buckets.blocks.shape[0], w.shape[0]](
        w, buckets.layers, buckets.blocks, buckets.histogram, stride, num_layers,
        NUM_CELLS=gpu.NUM_CELLS, SHIFT=gpu.SHIFT, BLOCK=gpu.BLOCK, **gpu.OPTIONS,
    )  # fmt: skip
    scan(buckets)


def insert(buckets: Buckets, w: Tensor) -> None:
    """Inserts `w` `[M, stride]` where no update did: one launch."""
    gpu.insert_kernel[buckets.blocks.shape[0], w.shape[0]](
        w, buckets.layers, buckets.blocks, buckets.map, buckets.count, buckets.slab, buckets.spill,
        buckets.spill_bucket, buckets.spill_count, *buckets.strides,
        CAPACITY=gpu.CAPACITY, NUM_CELLS=gpu.NUM_CELLS, SHIFT=gpu.SHIFT, BLOCK=gpu.BLOCK, **gpu.OPTIONS,
    )  # fmt: skip


def scan(buckets: Buckets) -> None:
    """First ranks of all buckets: one launch."""
    _, num_layers, member_buckets = buckets.strides
    gpu.scan_kernel[num_layers, buckets.count.shape[0]](
        buckets.layers, buckets.count, buckets.base, buckets.spill_base, buckets.spill_count, buckets.spilled,
        buckets.map, buckets.histogram, buckets.refresh, buckets.ranked, num_layers, member_buckets,
        CAPACITY=gpu.CAPACITY, FULL=gpu.FULL, NUM_CELLS=gpu.NUM_CELLS, BLOCK=gpu.BLOCK, **gpu.OPTIONS,
    )  # fmt: skip


def deal(buckets: Buckets, sorted_init: Tensor, q: Tensor) -> None:
    """Writes q = Q0[rank(w)] after `scan`: one launch.

    Args:
        buckets: into which w was inserted.
        sorted_init: `[M, stride]` float32, ascending within each layer.
        q: `[M, stride]` float32, written within the layers of rows that are finite.
    """
    gpu.rank_kernel[buckets.groups.shape[0], q.shape[0]](
        sorted_init, q, buckets.layers, buckets.groups, buckets.base, buckets.spill_base, buckets.slab,
        buckets.spill, buckets.spill_bucket, buckets.spilled, buckets.histogram, buckets.refresh, *buckets.strides,
        ROWS=gpu.ROWS, CAPACITY=gpu.CAPACITY, LOG_CAPACITY=gpu.CAPACITY.bit_length() - 1,
        NUM_CELLS=gpu.NUM_CELLS, SHIFT=gpu.SHIFT, UNROLL=gpu.UNROLL, num_warps=1, **gpu.OPTIONS,
    )  # fmt: skip


def bytes_per_weight(length: int) -> dict[str, float]:
    """Memory traffic of a row of `length` weights and step: distinct bytes of each launch, per weight.

    ``insert`` is beyond the update it is part of, which reads q like any pull to a target. Beside these, each weight
    takes one atomic addition. Spills and new maps are left out: they are rare. The map counts as if as many of its
    cells were read as can be.
    """
    buckets = num_buckets(length)
    totals = {
        "insert": 8 * length + min(8 * length, 4 * (gpu.NUM_CELLS + 1)),  # slab; map
        "scan": 8 * buckets + 4 * (buckets + 1) + 4 * buckets,  # counts read and zeroed; first ranks; spilled before
        "rank": 8 * length + 4 * (buckets + 1) + 4 * length + 4 * length,  # slab; first ranks; Q0; q
    }
    return {launch: total / length for launch, total in totals.items()}
