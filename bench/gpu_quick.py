"""The first minutes on a GPU: what the machine can do, that updates are right, and what each part of them costs.

Writes JSON anew after every line: its name, its seconds and what it found or why it failed. A failed line stops no
other; where the device itself is lost to the process, another process goes on with the next line. ``--dry-run``: the
same lines on a CPU, small, in Triton's interpreter; its times mean nothing, and its results say so.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gpu_wasserstein
import torch
from gpu_replay import DEVICE, ON_GPU, REAL, ROUNDS, UPDATES, Replay, mend_interpreter, microseconds, setup_of, task_of

from fastplast import seeding
from fastplast.engines import CudaEngine, VmapEngine
from fastplast.measuring.group import measure_group

MLP_MEMBERS, CNN_MEMBERS, ENGINE_MEMBERS = ((1000, 30, 120, 1), (30, 1000), (30, 1000)) if ON_GPU else ((1,),) * 3
FEW_UPDATES, FEW_ROUNDS = min(UPDATES, 3), min(ROUNDS, 3)
EPOCHS = 20 if ON_GPU else 1
TOLERANCE = 1e-3  # of a few updates: length of the difference, in the length of the change
LINE_SECONDS = 40 if ON_GPU else 300

Line = tuple[str, Callable[[], Any]]


@functools.lru_cache(1)
def replay_of(network: str, members: int, method: str) -> Replay:
    """Updates by themselves, of members of whom some are prepared and the others their copies."""
    return Replay(setup_of(network, min(members, REAL), method), members, UPDATES)


def rates() -> dict[str, float]:
    """A copy and products of random matrices, which take more power and so more time than constant ones."""
    size, side = (2**28, 8192) if ON_GPU else (2**20, 128)
    source, a, b = torch.rand(size, device=DEVICE), *torch.randn(2, side, side, device=DEVICE)
    target, found = torch.empty_like(source), {}
    found["copy GB/s"] = 2e-3 * source.nbytes / microseconds(lambda: target.copy_(source), ROUNDS)
    for name, allowed in (("fp32", False), ("tf32", True)):
        torch.backends.cuda.matmul.allow_tf32 = allowed
        found[f"{name} TFLOP/s"] = 2e-6 * side**3 / microseconds(lambda: a @ b, ROUNDS)
    torch.backends.cuda.matmul.allow_tf32 = False
    return found


def compared(network: str, method: str) -> dict[str, float]:
    """A few updates by graph, beside the vmap engine's.

    Raises:
        RuntimeError: if parameters differ by more than `TOLERANCE`.
    """
    setup = setup_of(network, REAL, method)
    replay, state = Replay(setup, REAL, FEW_UPDATES), setup.state
    replay.begin()
    replay.graph()
    replay.begin()
    replay.graph()()
    losses = replay.losses()
    tensors = {name: value.clone() for name, value in state.tensors().items()}
    own, before = type(state)(**tensors), state.params.clone()
    sums = VmapEngine(setup.group, own, DEVICE).run(own, task_of(setup), replay.step.order)
    difference, change = replay.step.params - own.params, own.params - before
    found = {
        "difference in the change": float(difference.norm() / change.norm()),
        "largest difference in the largest change": float(difference.abs().max() / change.abs().max()),
        "relative difference of losses": float((losses * replay.updates / sums.loss - 1).abs().max()),
    }
    if not found["difference in the change"] < TOLERANCE:
        raise RuntimeError(f"updates must equal the vmap engine's: got {rounded(found)}.")
    return found


def replayed(network: str, members: int, method: str) -> dict[str, Any]:
    """An update by graph replay, and each of its launches by itself."""
    replay = replay_of(network, members, method)
    update = replay.replay_time(ROUNDS)
    losses = replay.losses()
    found = {"us": update, "us per member": update / members, "mean loss": float(losses.mean())}
    if ON_GPU:
        found["GB on the device"] = torch.cuda.memory_allocated() / 1e9
    return found | {"us of launches": replay.launch_times(ROUNDS)}


def profiled(network: str, members: int, method: str) -> dict[str, float]:
    """Microseconds of each kernel within a replay, by the profiler."""
    return replay_of(network, members, method).profile()


def engine_epoch(network: str, members: int) -> dict[str, float]:
    """An epoch by the cuda engine, as training calls it, and the orders that it waits for."""
    clock = time.perf_counter()
    setup = setup_of(network, members)
    found = {"s to prepare": time.perf_counter() - clock}
    e, task = setup.experiment, task_of(setup)
    engine = CudaEngine(setup.group, setup.state, DEVICE, graphs=ON_GPU)

    def orders(epoch: int) -> torch.Tensor:
        return torch.from_numpy(seeding.orders(setup.group.seeds, e.examples, e.batch_size, 0, epoch))

    order = orders(0)
    engine.run(setup.state, task, order)
    updates = order.shape[1]
    waited = microseconds(lambda: orders(1), FEW_ROUNDS)
    run = microseconds(lambda: engine.run(setup.state, task, order), FEW_ROUNDS)
    both = microseconds(lambda: engine.run(setup.state, task, orders(2)), FEW_ROUNDS)
    return found | {
        "us of an update": run / updates, "us of an update with its orders": both / updates,
        "us of orders for an update": waited / updates, "us per member with its orders": both / updates / members,
    }  # fmt: skip


def vmap_update(network: str, members: int, graph: bool) -> dict[str, float]:
    """An update by the vmap engine, not compiled: eager, or as a CUDA graph."""
    setup = setup_of(network, members)
    task = task_of(setup)
    engine = VmapEngine(setup.group, setup.state, DEVICE)
    engine._captures = graph and ON_GPU
    e = setup.experiment
    order = torch.from_numpy(seeding.orders(setup.group.seeds, e.examples, e.batch_size, 0, 0))[:, : UPDATES // 4 or 1]
    engine.run(setup.state, task, order)
    update = microseconds(lambda: engine.run(setup.state, task, order), FEW_ROUNDS) / order.shape[1]
    return {"us": update, "us per member": update / members}


def experiment_parts() -> dict[str, float]:
    """One task of an experiment by the engine, and one measurement: seconds of each part."""
    found, clock = {}, time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        if ON_GPU:
            torch.cuda.synchronize()
        now = time.perf_counter()
        found[name], clock = found.get(name, 0.0) + now - clock, now

    setup_of.cache_clear()
    setup = setup_of("mlp", REAL)
    lap("s to prepare")
    task = task_of(setup)
    engine = CudaEngine(setup.group, setup.state, DEVICE, graphs=ON_GPU)
    lap("s to make the task")
    e = setup.experiment
    for epoch in range(EPOCHS):
        order = torch.from_numpy(seeding.orders(setup.group.seeds, e.examples, e.batch_size, 0, epoch))
        lap("s of orders")
        engine.run(setup.state, task, order)
        lap("s of the first epoch" if epoch == 0 else "s of the other epochs")
    measure = functools.partial(measure_group, setup.group, setup.state, task, engine.pull)
    measure(with_probes=False, with_hessian=False)
    lap("s to evaluate")
    measure(with_probes=True, with_hessian=False)
    lap("s to evaluate and probe")
    measured = measure(with_probes=False, with_hessian=True)
    lap("s to evaluate and find stable ranks")
    for column in ("error", "hessian_srank"):
        values = sorted(float(value) for value in measured.columns[column] if value is not None)
        found[f"median {column}"] = values[len(values) // 2]
    return found


def lines() -> Iterator[Line]:
    """All lines, in the order of their worth."""
    yield "rates", rates
    for network, method in (("mlp", "none"), ("mlp", "wasserstein"), ("cnn", "none")):
        yield f"compared, {network}, {method}", functools.partial(compared, network, method)
    shapes = [("mlp", members, method) for members in MLP_MEMBERS for method in ("none", "wasserstein")]
    for shape in [*shapes, *(("cnn", members, "none") for members in CNN_MEMBERS)]:
        words = "{}, {} members, {}".format(*shape)
        yield f"replay, {words}", functools.partial(replayed, *shape)
        if shape[1] in ENGINE_MEMBERS and ON_GPU:
            yield f"profile, {words}", functools.partial(profiled, *shape)
    for members in ENGINE_MEMBERS:
        yield f"engine, mlp, {members} members", functools.partial(engine_epoch, "mlp", members)
        for graph in (False, True):
            name = f"vmap {'graph' if graph else 'eager'}, mlp, {members} members"
            yield name, functools.partial(vmap_update, "mlp", members, graph)
    for members in ENGINE_MEMBERS:
        yield f"targets, {members} members", functools.partial(gpu_wasserstein.measure, members)
    yield f"experiment, {REAL} members, {EPOCHS} epochs", experiment_parts


def rounded(value: Any) -> Any:
    """Numbers to four digits."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def is_lost() -> bool:
    """Whether the device answers this process no more, as after an illegal access to memory."""
    try:
        if ON_GPU:
            torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def measured(name: str, work: Callable[[], Any]) -> dict[str, Any]:
    """What a line found, or why it failed, and how long that took."""

    def late(*_: object) -> None:
        raise TimeoutError(f"{LINE_SECONDS} s were not enough")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(LINE_SECONDS)
    begun, row = time.perf_counter(), {"line": name}
    try:
        row |= rounded(work())
    except Exception as error:  # whatever it is: the other lines are worth having
        row["error"] = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0][:300]
    finally:
        signal.alarm(0)
    return row | {"seconds": round(time.perf_counter() - begun, 2)}


def main() -> None:
    """Measures line by line, and writes after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--only", default="", help="lines whose names begin so")
    parser.add_argument("--first", type=int, default=0, help="leave out lines before this one, keep what is written")
    arguments = parser.parse_args()
    if arguments.dry_run:
        os.environ["TRITON_INTERPRET"] = "1"
        mend_interpreter()
    if not arguments.dry_run and not ON_GPU:
        sys.exit("a CUDA device is needed: --dry-run runs without one.")
    found: dict[str, Any] = {"dry_run": arguments.dry_run, "lines": []}
    if arguments.first:
        found = json.loads(arguments.output.read_text())
    for number, (name, work) in enumerate(lines()):
        if number < arguments.first or not name.startswith(arguments.only):
            continue
        row = measured(name, work)
        found["lines"].append(row)
        arguments.output.write_text(json.dumps(found, indent=1) + "\n")
        print(json.dumps(row), flush=True)
        if is_lost():
            options = [*(["--dry-run"] if arguments.dry_run else []), "--only", arguments.only]
            again = [sys.executable, __file__, *options, "--first", str(number + 1), str(arguments.output)]
            os.execv(sys.executable, again)
    failed = [row["line"] for row in found["lines"] if "error" in row]
    if failed:
        sys.exit(f"Error: {len(failed)} of {len(found['lines'])} lines failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
