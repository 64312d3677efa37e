"""Times the Wasserstein step on a GPU: the update of the cuda engine without ranks, with them, and beside torch.sort.

Replays CUDA graphs of updates of the MLP 784-128-64-32-10 whose weights drift as in training. Nothing is
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
from types import SimpleNamespace

import torch
import triton
from fastplast_kernels.mlp_step import gpu, launches, training
from fastplast_kernels.optimisers import Hyperparameters
from fastplast_kernels.proofs.mlp_step import dense_layers
from fastplast_kernels.wasserstein import buckets as ops
from fastplast_kernels.wasserstein.reference import target
from torch import Tensor

SIZES, BATCH = (784, 128, 64, 32, 10), 16
MEMBERS = (1, 30, 120, 1_000)
DRY_SIZES, DRY_MEMBERS = (30, 10, 3), (2,)


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


def step_of(w: Tensor, init: Tensor, sizes: tuple[int, ...], ranked: bool) -> launches.Step:
    """A step whose update is open: random values and gradients D of a minibatch, which stay."""
    members, device = len(w), w.device
    numbers = torch.zeros(members, BATCH, dtype=torch.int64, device=device)
    data = SimpleNamespace(
        images=torch.randint(256, (1, sizes[0]), dtype=torch.uint8, device=device), rows=numbers, labels=numbers,
        pixels=None, scale=torch.full((sizes[0],), 1 / 255, device=device), shift=torch.zeros(sizes[0], device=device),
    )  # fmt: skip
    is_ranked = torch.full((members,), ranked, device=device)
    step = launches.allocate(w, dense_layers(sizes)[0], data, numbers[:, None], anchor=init, ranked=is_ranked)
    step.params.copy_(w)
    step.values.uniform_()
    step.deltas.normal_(std=1e-2)
    one = torch.ones(members, dtype=torch.float64, device=device)
    hyper = Hyperparameters(1e-3 * one, 0.9 * one, 0.999 * one, 1e-8 * one, 0 * one, 0 * one, one)
    training.begin(step, hyper, 100 * one.long(), one.long())
    step.members[:, gpu.OPEN] = 1
    return step


def measure(members: int, sizes: tuple[int, ...], device: str, dry_run: bool) -> dict[str, float]:
    """Microseconds of each operation for one number of members.

    Raises:
        RuntimeError: If a target differs from the reference after the steps that were timed.
    """
    layers, size = dense_layers(sizes)
    places = [(layer.weight, layer.inputs * layer.outputs) for layer in layers]
    w, init = torch.zeros(members, size, device=device), torch.zeros(members, size, device=device)
    for offset, n in places:
        w[:, offset : offset + n] = torch.rand(members, n, device=device) * 0.16 - 0.08
        init[:, offset : offset + n] = w[:, offset : offset + n].sort(dim=1).values
    pulled, ranked = (step_of(w, init, sizes, ranked) for ranked in (False, True))
    update, update_and_insert = launches.launches(pulled)[-1], launches.launches(ranked)[-1]

    def step() -> None:
        update_and_insert()
        ops.scan(ranked.buckets)
        ops.deal(ranked.buckets, ranked.anchor, ranked.q)

    times = {"update with pull": timed(update, dry_run), "update, insert, ranks": timed(step, dry_run)}
    step()
    for offset, n in places:
        part = slice(offset, offset + n)
        if not torch.equal(ranked.q[:, part], target(ranked.params[:, part], init[:, part])):
            raise RuntimeError(
                f"targets must equal a stable argsort: the layer at {offset} of {members} members differs."
            )
    times["spilled weights of the last step"] = float(ranked.buckets.spilled.sum())
    q = torch.empty_like(w)
    times["torch.sort and scatter"] = timed(lambda: sorted_by_torch(ranked.params, init, q, places), dry_run)
    return times


def main() -> None:
    """Measures, and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    dry = arguments.dry_run
    sizes, counts = (DRY_SIZES, DRY_MEMBERS) if dry else (SIZES, MEMBERS)
    device = "cpu" if dry else "cuda"
    results = {
        "device": "Triton's interpreter" if dry else torch.cuda.get_device_name(),
        "dry_run": dry,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "unit": "median microseconds per step, all layers of all members",
        "bytes per weight beyond the pulling update": ops.bytes_per_weight(sizes[0] * sizes[1]),
        "members": {},
    }
    for members in counts:
        results["members"][str(members)] = measure(members, sizes, device, dry)
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
