"""Launches for a profiler to look at, one of each kind: run under Nsight Compute with ``--profile-from-start off``.

First layer forward, tail, update with insertion, scan and ranks of perceptrons, and the update of convolutions.
"""

from __future__ import annotations

import argparse

import torch
from fastplast_kernels.train_step import launches
from fastplast_kernels.wasserstein import buckets
from gpu_replay import ON_GPU, REAL, Replay, mend_interpreter, setup_of


def main() -> None:
    """Compiles everything by a first update, then launches under the profiler's eyes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true")
    if parser.parse_args().dry_run:
        mend_interpreter()
    profiler = torch.cuda.profiler if ON_GPU else None
    for members in (1000, 30) if ON_GPU else (REAL,):
        for network, method in (("mlp", "wasserstein"), ("cnn", "none")):
            replay = Replay(setup_of(network, REAL, method), members, 2)
            step, every = replay.step, launches.launches(replay.step)
            replay.begin()
            launches.update(step)
            watched = range(len(every)) if network == "mlp" else [len(every) - 2]
            for number, launch in enumerate(every):
                if profiler and number in watched:
                    profiler.start()
                launch()
                print(
                    f"{network}, {members} members: {launch.kernel.__name__}, watched: {number in watched}", flush=True
                )
                if profiler and number in watched:
                    torch.cuda.synchronize()
                    profiler.stop()
            if step.buckets is not None:
                buckets.scan(step.buckets)
                if profiler:
                    profiler.start()
                buckets.deal(step.buckets, step.anchor, step.q)
                if profiler:
                    torch.cuda.synchronize()
                    profiler.stop()
    if ON_GPU:
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
