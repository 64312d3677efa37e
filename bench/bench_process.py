"""What a whole process costs: its start, its memory, and one task of the paper's largest experiment."""

from __future__ import annotations

import subprocess
import sys
import time

import torch

CHILD = """
import sys, tempfile, time
from fastplast.config import Experiment
from fastplast.training.setup import prepare
from fastplast.training.start import start
members, epochs = int(sys.argv[1]), int(sys.argv[2])
def peak():  # of this program; rusage would count the one that started it as well
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
out = tempfile.mkdtemp() + "/run"
experiment = Experiment(
    benchmark="mnist_shuffle", seeds=members, tasks=1, epochs=epochs, srank="off", engine="cpu", probe_every=1, out=out
)
imported = peak()
setup, events = start(experiment)
for event in events:
    if type(event).__name__ == "EpochDone" and event.epoch == 0:
        print("epoch", time.time(), flush=True)
state = sum(t.numel() * t.element_size() for t in setup.state.tensors().values()) / 2**20
print("memory", imported, peak(), state, flush=True)
"""


def child(members: int, epochs: int) -> tuple[float, list[float]]:
    """Seconds from the start of a process to the end of its first epoch, and its memory in MiB."""
    begun = time.time()
    done = subprocess.run([sys.executable, "-c", CHILD, str(members), str(epochs)], capture_output=True, check=True)
    words = [line.split() for line in done.stdout.decode().splitlines()]
    first = next(float(line[1]) for line in words if line[0] == "epoch")
    return first - begun, next([float(x) for x in line[1:]] for line in words if line[0] == "memory")


def test_memory(benchmark) -> None:
    benchmark.group = "memory of a training process, mnist_shuffle, engine cpu"
    sizes = (1, 30, 300)
    found = {}
    benchmark.pedantic(lambda: found.update((m, child(m, 1)[1]) for m in sizes), rounds=1)
    for m in sizes:
        imported, peak, state = found[m]
        benchmark.extra_info[f"{m} members: peak MiB"] = peak
        benchmark.extra_info[f"{m} members: parameters, moments and initial parameters, MiB"] = state
    benchmark.extra_info["MiB after importing torch"] = imported
    slope = (found[300][1] - found[30][1]) / (found[300][2] - found[30][2])
    benchmark.extra_info["peak memory of a further member over its state"] = slope


def test_start(benchmark) -> None:
    benchmark.group = "start of a process whose kernels are compiled: to the end of the first epoch of one member"
    child(1, 1)
    seconds = []
    benchmark.pedantic(lambda: seconds.append(child(1, 1)[0]), rounds=5)
    benchmark.extra_info["median seconds"] = sorted(seconds)[2]


def test_machine(benchmark) -> None:
    benchmark.group = "SGEMM 2048 x 2048 x 2048 of this machine, GFLOP/s by threads"
    a = torch.randn(2048, 2048)
    threads = torch.get_num_threads()

    def speed(number: int) -> float:
        torch.set_num_threads(number)
        begun = time.perf_counter()
        a @ a
        return 2 * 2048**3 / (time.perf_counter() - begun) / 1e9

    rates: dict[int, list[float]] = {1: [], 2: []}
    benchmark.pedantic(lambda: [rates[n].append(speed(n)) for n in rates], rounds=9, warmup_rounds=1)
    torch.set_num_threads(threads)
    for n, values in rates.items():
        benchmark.extra_info[f"{n} threads, median"] = sorted(values[1:])[4]
    ratios = sorted(two / one for one, two in zip(rates[1][1:], rates[2][1:]))
    benchmark.extra_info["two threads over one, median of rounds"] = ratios[4]


def test_one_task(benchmark) -> None:
    benchmark.group = "mnist_shuffle, 30 members, engine cpu: one of 100 tasks of 16,000 updates, training alone"
    from bench_training import orders, setup_of

    from fastplast.problems import make_task

    setup = setup_of("mnist_shuffle", 30, "cpu")
    task = make_task(setup.problem, 0)
    epochs = setup.experiment.epochs

    def train() -> None:
        for epoch in range(epochs):
            setup.engine.run(setup.state, task, orders(30, epoch))

    setup.engine.run(setup.state, task, orders(30, 0)[:, :1].contiguous())
    begun = time.perf_counter()
    benchmark.pedantic(train, rounds=1)
    seconds = time.perf_counter() - begun
    benchmark.extra_info["seconds"] = seconds
    benchmark.extra_info["microseconds per member-update"] = seconds / (30 * epochs * 80) * 1e6
    benchmark.extra_info["minutes for 100 tasks"] = seconds * 100 / 60
