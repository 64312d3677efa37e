"""Where the time of an update goes on one thread: parts of the first layer's step, beside their arithmetic bound."""

from __future__ import annotations

import time
from collections.abc import Callable

import numba
import numpy as np
import torch
from fastplast_kernels.mlp_step.dense import build_dense_update, dense_forward
from fastplast_kernels.mlp_step.rules import adam, sgd
from fastplast_kernels.optimisers import EPSILON, KEEP, NEW1, NUM_COEFFICIENTS, OLD1, OLD2, RATE

INPUTS, OUTPUTS, BATCH = 784, 128, 16  # the first layer of the paper's network
CALLS, ROUNDS = 100, 15


def forward_loop() -> Callable:
    @numba.njit(nogil=True)
    def loop(calls, w, x, y):
        for _ in range(calls):
            dense_forward(w, 0, INPUTS * OUTPUTS, x, 0, INPUTS, y, 0, OUTPUTS, BATCH, INPUTS, OUTPUTS)

    return loop


def update_loop(rule: Callable) -> Callable:
    update = build_dense_update(rule, regularised=False)

    @numba.njit(nogil=True)
    def loop(calls, w, m, v, c, x, d, batch):
        total = 0.0
        for _ in range(calls):
            total += update(
                w, m, v, 0, w, 0, c, np.float32(0.0), x, 0, INPUTS, d, 0, OUTPUTS, batch, INPUTS, OUTPUTS
            )[0]  # fmt: skip
        return total

    return loop


def test_first_layer(benchmark) -> None:
    benchmark.group = f"a dense layer {INPUTS} -> {OUTPUTS}, batch {BATCH}, one thread: microseconds"
    draw = np.random.default_rng(0).standard_normal
    w, m, v = (scale * draw(OUTPUTS * (INPUTS + 1), np.float32) for scale in (0.01, 1e-3, 1e-3))
    x, d, y = draw(BATCH * INPUTS, np.float32), 1e-3 * draw(BATCH * OUTPUTS, np.float32), np.empty(BATCH * OUTPUTS)
    v, y = np.abs(v), y.astype(np.float32)
    c = np.zeros(NUM_COEFFICIENTS, np.float32)  # of adam, at a step size that leaves w as it is
    c[[OLD1, NEW1, OLD2, RATE, EPSILON, KEEP]] = 0.9, 3.0, 0.999, -1e-9, 1e-8, 1.0
    momentum = np.zeros(NUM_COEFFICIENTS, np.float32)
    momentum[[OLD1, RATE, KEEP]] = 0.9, -1e-9, 1.0
    a = torch.randn(1024, 1024)
    forward, with_adam, with_sgd = forward_loop(), update_loop(adam), update_loop(sgd)
    runs: dict[str, Callable] = {
        "forward": lambda: forward(CALLS, w, x, y),
        "weight gradient and Adam": lambda: with_adam(CALLS, w, m, v, c, x, d, BATCH),
        "Adam alone": lambda: with_adam(CALLS, w, m, v, c, x, d, 0),
        "weight gradient and momentum": lambda: with_sgd(CALLS, w, m, m, momentum, x, d, BATCH),
        "bound of one product [16, 784] x [784, 128] by this machine's SGEMM": lambda: a @ a,
    }
    scale = dict.fromkeys(runs, CALLS)
    scale[list(runs)[-1]] = 1024**3 / (INPUTS * OUTPUTS * BATCH)
    times: dict[str, list[float]] = {name: [] for name in runs}

    def all_in_turn() -> None:
        for name, run in runs.items():
            begun = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - begun) / scale[name] * 1e6)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    benchmark.pedantic(all_in_turn, rounds=ROUNDS, warmup_rounds=1)
    torch.set_num_threads(threads)
    benchmark.extra_info.update({name: float(np.median(values[1:])) for name, values in times.items()})
