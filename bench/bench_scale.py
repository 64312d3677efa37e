"""Throughput of training by members, network and method on either device, beside its peak; the cost of stable ranks.

``FASTPLAST_BENCH_DEVICE`` is ``cpu`` (default) or ``cuda``, ``FASTPLAST_BENCH_MEMBERS`` the numbers of members. What an
engine says it cannot do is skipped with its words. On a GPU the updates of the ``cuda`` engine are also timed by
themselves (``cuda graph``), and JAX is best chosen by ``-k JAX``, for a process of its own. Bytes and operations are
what an update needs at least, so shares of the peak are lower bounds; peaks are a copy and a matrix product of the same
machine in the same process.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Callable

import numpy as np
import peers
import pytest
import torch
from torch import Tensor

from fastplast import seeding
from fastplast.config import ConfigError, Experiment
from fastplast.curvature import measure
from fastplast.engines import choose_engine
from fastplast.machine.profiling import annotate
from fastplast.measuring import probes
from fastplast.measuring.hessian import tail_of
from fastplast.networks import Conv
from fastplast.problems import Task, make_task
from fastplast.training.setup import Setup, prepare

DEVICE = torch.device(os.environ.get("FASTPLAST_BENCH_DEVICE", "cpu"))
MEMBERS = [int(m) for m in os.environ.get("FASTPLAST_BENCH_MEMBERS", "1,30").split(",")]
NETWORKS = {"mlp": "mnist_shuffle", "cnn": "cifar_shuffle"}
OURS = "cuda" if DEVICE.type == "cuda" else "cpu"
ENGINES = {OURS: {"engine": OURS}, "vmap": {"engine": "vmap"}, "vmap compiled": {"engine": "vmap", "compile": True}}
GRAPH = ["cuda graph"] if DEVICE.type == "cuda" else []
JAX = {"JAX vmap": peers.jax_vmap} if DEVICE.type == "cuda" else {"JAX lax.map": peers.jax_map}  # the faster there
PEERS = {"torch loop": peers.torch_loop, "torch.func.vmap": peers.torch_vmap, **JAX}
UPDATES = {OURS: 80, "cuda graph": 80}  # of a call: an epoch's, which what a call costs is spread over
FEW_UPDATES, ROUNDS, BUFFERS = 4, 5, 4
LOOP = 30  # members at most of what trains one after another


def on_device(task: Task) -> Task:
    moved = {name: value.to(DEVICE) for name, value in vars(task).items() if isinstance(value, Tensor)}
    return dataclasses.replace(task, **moved)


@functools.lru_cache(1)
def prepared(network: str, members: int, method: str) -> Setup:
    strength = {} if method == "none" else {"strength": (0.01,)}
    common = {"benchmark": NETWORKS[network], "seeds": members, "srank": "off", "device": DEVICE.type}
    return prepare(Experiment(**common, engine="vmap", method=method, **strength))


def setup_of(network: str, members: int, method: str, fields: dict) -> Setup:
    setup = prepared(network, members, method)
    try:
        experiment = dataclasses.replace(setup.experiment, **fields)
        engine = choose_engine(experiment, setup.group, setup.state, DEVICE)
    except ConfigError as error:
        pytest.skip(str(error))
    return dataclasses.replace(setup, experiment=experiment, engine=engine)


def skip(name: str, members: int, method: str) -> None:
    """Before anything is prepared."""
    if name in PEERS and method != "none" and name not in JAX:
        pytest.skip(f"{name} trains without a regulariser")
    if members > LOOP and name == "torch loop":
        pytest.skip(f"{name} trains at most {LOOP} members here")
    if name in JAX:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # or it takes most of the memory of all
        pytest.importorskip("jax", reason="needs JAX: pip install .[bench]")


def run_of(name: str, network: str, members: int, method: str) -> tuple[Setup, Callable, Callable]:
    """A setup, what comes before each call and is not timed, and what trains on an order of minibatches."""
    setup = setup_of(network, members, method, ENGINES.get(name, {}))
    if name in GRAPH:
        from gpu_replay import Replay  # which imports Triton

        replay = Replay(setup, members, UPDATES[name])
        graph = replay.graph()
        return setup, replay.begin, lambda order: graph()
    task = on_device(make_task(setup.problem, 0))
    if name in ENGINES:
        return setup, lambda: None, lambda order: setup.engine.run(setup.state, task, order)
    return setup, lambda: None, PEERS[name](setup, task)


def seconds(work: Callable[[], object]) -> float:
    """Between two events on a GPU, by the clock on a CPU."""
    if DEVICE.type == "cpu":
        begun = time.perf_counter()
        work()
        return time.perf_counter() - begun
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    work()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


@functools.cache
def peaks() -> tuple[float, float]:
    """Bytes per second of a copy, operations per second of a float32 product."""
    gpu = DEVICE.type == "cuda"
    size, side = (2**28, 8192) if gpu else (2**25, 1024)
    source, square = torch.rand(size, device=DEVICE), torch.randn(side, side, device=DEVICE)  # ones are faster
    target = torch.empty_like(source)
    copies = [seconds(lambda: target.copy_(source)) for _ in range(5)]
    products = [seconds(lambda: square @ square) for _ in range(5)]
    return 2 * source.nbytes / min(copies), 2 * len(square) ** 3 / min(products)


def needed(setup: Setup, method: str) -> tuple[int, int]:
    """Bytes and operations that an update of one member needs at least: state read and written, three products."""
    places = {layer.name: np.prod(layer.output_shape[1:]) if isinstance(layer, Conv) else 1
              for layer in setup.group.network.layers}  # fmt: skip
    weights = [slot for slot in setup.group.layout.slots if slot.is_weight]
    products = sum(slot.count * int(places[slot.name.removesuffix(".weight")]) for slot in weights)
    return setup.group.layout.count * (24 if method == "none" else 28), 6 * setup.experiment.batch_size * products


@pytest.mark.parametrize("name", [*ENGINES, *GRAPH, *PEERS])  # one after another with what is prepared once
@pytest.mark.parametrize("method", ["none", "wasserstein"])
@pytest.mark.parametrize("members", MEMBERS)
@pytest.mark.parametrize("network", NETWORKS)
def test_throughput(benchmark, name: str, network: str, members: int, method: str) -> None:
    benchmark.group = f"{network}, {members} members, {method}, on {DEVICE.type}"
    skip(name, members, method)
    setup, before, run = run_of(name, network, members, method)
    updates = UPDATES.get(name, FEW_UPDATES)
    orders = [  # other examples each time: what a cache kept of the last call is of no use
        torch.from_numpy(seeding.orders(setup.group.seeds, 1280, 16, 0, epoch))[:, :updates].contiguous()
        for epoch in range(BUFFERS)
    ]
    times: list[float] = []

    def timed() -> None:
        before()
        with annotate(f"{name} {network} {members} {method}"):
            times.append(seconds(lambda: run(orders[len(times) % BUFFERS])) / updates / members)

    try:
        timed()  # compiles
    except ConfigError as error:
        pytest.skip(str(error))
    benchmark.pedantic(timed, rounds=ROUNDS, warmup_rounds=1)
    each = float(np.median(times[2:] or times))
    moved, operations = needed(setup, method)
    bandwidth, arithmetic = peaks()
    benchmark.extra_info.update({
        "us": {name: each * 1e6}, "ratio": {name: 1.0}, "GB/s": moved / each / 1e9, "TFLOP/s": operations / each / 1e12,
        "share of the copy's bandwidth": moved / each / bandwidth,
        "share of the product's TFLOP/s": operations / each / arithmetic,
    })  # fmt: skip


@pytest.mark.parametrize("method", ["exact", "auto"])
@pytest.mark.parametrize("members", [m for m in MEMBERS if m <= 120])
def test_stable_rank(benchmark, members: int, method: str) -> None:
    benchmark.group = f"stable rank of {members} members at initialisation, on {DEVICE.type}"
    setup = setup_of("mlp", members, "none", {"engine": "vmap"})
    task, network, params = on_device(make_task(setup.problem, 0)), setup.group.network, setup.state.params
    inputs = [probes.evaluate(network, params[m], task, m).tail_inputs for m in range(members)]
    tail = tail_of(network, params, task.labels, inputs)
    times: list[float] = []
    with annotate(f"srank {members} {method}"):
        benchmark.pedantic(lambda: times.append(seconds(lambda: measure(tail, method=method))), rounds=1)
    benchmark.extra_info["seconds"] = {f"{method}, {members} members": times[-1]}
    benchmark.extra_info["ratio"] = {f"{method}, {members} members": 1.0}
