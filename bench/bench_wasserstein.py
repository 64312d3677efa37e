"""Microseconds to rank a row of weights and to pull it to its targets, beside the sorts that users have today."""

from __future__ import annotations

import numpy as np
import peers
import pytest
import torch
from bench_training import orders, provider, setup_of, side_by_side
from fastplast_kernels import workers
from fastplast_kernels.compilation import compiled
from fastplast_kernels.wasserstein import cpu_rows, reference

from fastplast.methods import pull
from fastplast.problems import make_task

N = 100_352  # weights of the first layer of the MNIST network
ROWS = 10
FIELDS = {"method": "wasserstein", "strength": (0.01,)}


def distributions() -> dict[str, np.ndarray]:
    """Rows `[ROWS, N]` of each kind."""
    rng = np.random.default_rng(0)
    gauss = rng.standard_normal((ROWS, N))
    rows = {
        "gaussian": 0.05 * gauss,
        "uniform": rng.uniform(-0.08, 0.08, gauss.shape),
        "heavy-tailed": rng.standard_cauchy(gauss.shape),
        "log-normal": np.exp(5 * gauss),
        "sorted": np.sort(gauss),
        "reversed": np.sort(gauss)[:, ::-1],
        "constant": np.full(gauss.shape, 0.3),
        "two-valued": np.where(gauss > 0, 0.1, -0.1),
        "zeros of both signs": np.where(gauss > 0, 0.0, -0.0),
        "denormal": 1e-40 * gauss,
        "huge": 1e37 * gauss,
        "tiny": 1e-37 * gauss,
        "one outlier at 1e30": np.where(np.arange(N) == N // 2, 1e30, 0.05 * gauss),
    }
    return {name: np.ascontiguousarray(row, np.float32) for name, row in rows.items()}


def initial_weights() -> torch.Tensor:
    return torch.from_numpy(np.sort(np.random.default_rng(1).uniform(-0.08, 0.08, N).astype(np.float32)))


def ours(w: np.ndarray, threads: int = 1):
    """Penalty, target and gradient of the rows."""
    rows, initial = torch.from_numpy(w), initial_weights()
    gradient = torch.zeros_like(rows)
    return lambda order: cpu_rows.penalty_and_gradient(rows, initial, 1 / N, threads, gradient)


def torch_sort(w: np.ndarray):
    """The sort alone: penalty and gradient come on top."""
    rows = torch.from_numpy(w)

    def run(order) -> None:
        for row in rows:
            torch.sort(row)

    return run


def packed(w: np.ndarray) -> np.ndarray:
    """Key and index of every weight in one word, whose sort NumPy vectorises."""
    bits = w.view(np.int32).astype(np.int64)
    key = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits) + 2**31
    return (key.astype(np.uint64) << np.uint64(32)) | np.arange(w.shape[1], dtype=np.uint64)


def numpy_sort(w: np.ndarray):
    """The sort alone of words that are packed already."""
    words = packed(w)

    def run(order) -> None:
        for row in words:
            np.sort(row)

    return run


def check(w: np.ndarray, threads: int = 1) -> None:
    """A kernel that is not the reference gets no time."""
    initial = initial_weights()
    penalty, gradient = cpu_rows.penalty_and_gradient(torch.from_numpy(w), initial, 1 / N, threads)
    away = w.astype(np.float64) - reference.target(torch.from_numpy(w), initial).numpy()
    np.testing.assert_array_max_ulp(gradient.numpy(), (2 / N * away).astype(np.float32), maxulp=1)
    expected = (away**2).sum(axis=1) / N
    finite = expected < np.finfo(np.float32).max
    np.testing.assert_allclose(penalty.numpy()[finite], expected[finite], rtol=2 * np.finfo(np.float32).eps)


@pytest.fixture(autouse=True)
def one_thread_of_torch():
    """As fast as torch.sort of one row gets, and what "one thread" says."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_row(benchmark) -> None:
    benchmark.group = f"a row of {N:,} weights: penalty, target and gradient on one thread, and the sorts alone"
    benchmark.extra_info["unit"] = "row"
    w = distributions()["gaussian"]
    check(w)
    runs = {"penalty, target and gradient": ours(w), "torch.sort": torch_sort(w), "NumPy, packed": numpy_sort(w)}
    side_by_side(benchmark, runs, 1, dict.fromkeys(runs, ROWS))


def test_distributions(benchmark) -> None:
    benchmark.group = f"penalty, target and gradient of a row of {N:,} weights on one thread, by distribution"
    benchmark.extra_info["unit"] = "row"
    kinds = distributions()
    for w in kinds.values():
        check(w)
    side_by_side(benchmark, {name: ours(w) for name, w in kinds.items()}, 1, dict.fromkeys(kinds, ROWS))


@compiled
def _multiply(counter, factor):
    """Arithmetic that touches no memory: what two threads of this machine can gain."""
    total = 1.0
    while workers.take(counter) < 30:
        for _ in range(400_000):
            total = total * factor + 1.0
    return total


def test_threads(benchmark) -> None:
    benchmark.group = f"30 rows of {N:,} weights, by the number of threads"
    benchmark.extra_info["unit"] = "row"
    w = np.tile(distributions()["gaussian"], (3, 1))
    check(w, threads=2)
    runs = {f"{threads} threads": ours(w, threads) for threads in (2, 1)}
    for threads in (2, 1):
        runs[f"arithmetic alone, {threads} threads"] = lambda order, threads=threads: workers.run(
            lambda counter, thread: _multiply(counter, 0.5), 30, threads
        )
    side_by_side(benchmark, runs, 1, dict.fromkeys(runs, 30))


def with_torch_sort(run):
    """The vmap engine as it would be without the kernel."""

    def sorted_run(order):
        kernel, pull.ranked_target = pull.ranked_target, reference.target
        try:
            return run(order)
        finally:
            pull.ranked_target = kernel

    return sorted_run


def test_training(benchmark) -> None:
    """Every provider's losses of two updates are those of the vmap engine with torch.sort, else it gets no time."""
    pytest.importorskip("jax", reason="the bench compares with JAX: pip install .[bench]")
    torch.set_num_threads(2)
    benchmark.group = "mnist_shuffle, 30 members, batch 16, adam, method wasserstein"
    setup = setup_of("mnist_shuffle", 30, **FIELDS)
    task = make_task(setup.problem, 0)
    runs = {
        "engine cpu": provider("engine cpu", "mnist_shuffle", 30, **FIELDS),
        "engine vmap": provider("engine vmap", "mnist_shuffle", 30, **FIELDS),
        "engine vmap, torch.sort": with_torch_sort(provider("engine vmap", "mnist_shuffle", 30, **FIELDS)),
        "JAX lax.map, argsort": peers.jax_map(setup, task),
        "JAX lax.map, sort and search": peers.jax_map_search(setup, task),
    }
    for order in orders(30, 0)[:, :2].split(1, 1):
        losses = {name: np.asarray(run(order.contiguous())) for name, run in runs.items()}
        for name, found in losses.items():
            truth = losses["engine vmap, torch.sort"]
            np.testing.assert_allclose(found, truth, rtol=2e-4, err_msg=f"{name} is wrong: no time is reported")
    updates = {name: 80 if name == "engine cpu" else 1 for name in runs}  # of a call
    side_by_side(benchmark, runs, updates, dict.fromkeys(runs, 30))
