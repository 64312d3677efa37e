"""Times the Wasserstein step on a GPU: the update of the cuda engine without ranks, with them, and beside torch.sort.

Replays CUDA graphs of updates of the MLP 784-128-64-32-10 whose weights drift in training. Nothing is written for a
number of members whose targets differ from a stable argsort. ``--dry-run`` takes the same path on the CPU, in Triton's
interpreter, with small layers and without graphs: its times mean nothing, and its results say so.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
import triton
from fastplast_kernels.wasserstein import buckets
from fastplast_kernels.wasserstein.reference import target
from gpu_replay import ON_GPU, REAL, ROUNDS, UPDATES, Replay, captured, mend_interpreter, microseconds, setup_of
from torch import Tensor

MEMBERS = (1, 30, 120, 1_000) if ON_GPU else (1,)


def sorted_by_torch(w: Tensor, init: Tensor, q: Tensor, places: list[slice]) -> None:
    """The targets by torch.sort, as a user would write it."""
    for place in places:
        order = w[:, place].sort(dim=1).indices
        q[:, place] = torch.empty_like(w[:, place]).scatter_(1, order, init[:, place])


def measure(members: int) -> dict[str, float]:
    """Microseconds of each operation for one number of members.

    Raises:
        RuntimeError: If a target differs from the reference after a call of updates.
    """
    pulled, ranked = (
        Replay(setup_of("mlp", min(members, REAL), method), members, UPDATES)
        for method in ("regenerative", "wasserstein")
    )
    kinds = {"update with pull": (pulled, " update_kernel"), "update, insert, ranks": (ranked, "scan and ranks")}
    times = {name: sum(replay.launch_times(ROUNDS, only).values()) for name, (replay, only) in kinds.items()}
    ranked.begin()
    ranked.graph()()
    step = ranked.step
    places = [slice(layer.weight, layer.weight + layer.inputs * layer.outputs) for layer in step.layers]
    for place in places:
        if not torch.equal(step.q[:, place], target(step.params[:, place], step.anchor[:, place])):
            raise RuntimeError(
                f"targets must equal a stable argsort: the layer at {place.start} of {members} members differs."
            )
    times["spilled weights of the last step"] = float(step.buckets.spilled.sum())
    q = torch.empty_like(step.q)
    by_sorting = captured(lambda: sorted_by_torch(step.params, step.anchor, q, places))
    return times | {"torch.sort and scatter": microseconds(by_sorting, ROUNDS)}


def main() -> None:
    """Measures, and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--members", type=int, nargs="*", default=MEMBERS, help="of each measurement")
    arguments = parser.parse_args()
    if arguments.dry_run:
        mend_interpreter()
    results = {
        "device": torch.cuda.get_device_name() if ON_GPU else "Triton's interpreter",
        "dry_run": arguments.dry_run,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "unit": "median microseconds per step, all layers of all members",
        "bytes per weight beyond the pulling update": buckets.bytes_per_weight(784 * 128),
        "members": {},
    }
    for members in arguments.members:
        results["members"][str(members)] = measure(members)
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
