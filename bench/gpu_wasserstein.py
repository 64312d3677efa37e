"""Times the Wasserstein step on a GPU: the fused update without ranks, with them, and beside torch.sort.

Replays CUDA graphs of steps on the weights of the MLP 784-128-64-32-10 while they drift as in training. Nothing is
written for a number of members whose targets differ from a stable argsort. ``--dry-run`` takes the same path on the
CPU, in Triton's interpreter, with small layers and without graphs: its times mean nothing, and its results say so.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import triton
from fastplast_kernels.update import launches
from fastplast_kernels.update.reference import Hyperparameters
from fastplast_kernels.wasserstein import buckets as ops
from fastplast_kernels.wasserstein.reference import target
from torch import Tensor

LAYERS = [(0, 100_352), (100_480, 8_192), (108_736, 2_048), (110_816, 320)]
STRIDE = 111_152
MEMBERS = (1, 30, 120, 1_000)
DRY_LAYERS, DRY_STRIDE, DRY_MEMBERS = [(0, 300), (304, 32)], 336, (2,)


def timed(work: Callable[[], None], dry_run: bool) -> float:
    """Median microseconds of `work`, replayed as a CUDA graph."""
    if dry_run:
        start = time.perf_counter()
        work()
        return 1e6 * (time.perf_counter() - start)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):  # compiles, and lets the maps settle
            work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        work()
    times = []
    for _ in range(50):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(1e3 * start.elapsed_time(end))
    return statistics.median(times)


def sorted_by_torch(w: Tensor, init: Tensor, q: Tensor, layers: list[tuple[int, int]]) -> None:
    """The targets by torch.sort, as a user would write it."""
    for offset, n in layers:
        part = slice(offset, offset + n)
        order = w[:, part].sort(dim=1).indices
        q[:, part] = torch.empty_like(w[:, part]).scatter_(1, order, init[:, part])


def measure(members: int, layers: list[tuple[int, int]], stride: int, device: str, dry_run: bool) -> dict[str, float]:
    """Microseconds of each operation for one number of members.

    Raises:
        RuntimeError: If a target differs from the reference after the steps that were timed.
    """
    generator = torch.Generator(device).manual_seed(0)
    w, g, init = (torch.zeros(members, stride, device=device) for _ in range(3))
    for offset, n in layers:
        part = slice(offset, offset + n)
        w[:, part] = torch.rand(members, n, generator=generator, device=device) * 0.16 - 0.08
        g[:, part] = torch.randn(members, n, generator=generator, device=device)
        init[:, part] = w[:, part].sort(dim=1).values
    m, v, q = torch.zeros_like(w), torch.zeros_like(w), w.clone()
    column = torch.ones(members, dtype=torch.float64, device=device)
    hyper = Hyperparameters(1e-3 * column, 0.9 * column, 0.999 * column, 1e-8 * column, *(0 * column,) * 2, column)
    table = launches.coefficients(hyper, 100 * column)
    factor = torch.tensor([1.0 / n for _, n in layers], device=device)
    buckets = ops.allocate(members, stride, layers, device)
    partial = torch.empty(2, members, buckets.blocks.shape[0], device=device)
    ops.warm_up(buckets, w)

    def update(insert: bool) -> None:
        launches.adam(w, g, m, v, q, table, factor, partial, buckets, insert=insert)

    def step() -> None:
        update(True)
        ops.scan(buckets)
        ops.deal(buckets, init, q)

    times = {"update with pull": timed(lambda: update(False), dry_run), "update, insert, ranks": timed(step, dry_run)}
    step()
    for offset, n in layers:
        part = slice(offset, offset + n)
        if not torch.equal(q[:, part], target(w[:, part], init[:, part])):
            raise RuntimeError(
                f"targets must equal a stable argsort: the layer at {offset} of {members} members differs."
            )
    times["spilled weights of the last step"] = float(buckets.spilled.sum())
    times["torch.sort and scatter"] = timed(lambda: sorted_by_torch(w, init, q, layers), dry_run)
    return times


def main() -> None:
    """Measures, and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args()
    dry = arguments.dry_run
    layers, stride, counts = (DRY_LAYERS, DRY_STRIDE, DRY_MEMBERS) if dry else (LAYERS, STRIDE, MEMBERS)
    device = "cpu" if dry else "cuda"
    results = {
        "device": "Triton's interpreter" if dry else torch.cuda.get_device_name(),
        "dry_run": dry,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "unit": "median microseconds per step, all layers of all members",
        "bytes per weight beyond the pulling update": ops.bytes_per_weight(layers[0][1]),
        "members": {},
    }
    for members in counts:
        results["members"][str(members)] = measure(members, layers, stride, device, dry)
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
