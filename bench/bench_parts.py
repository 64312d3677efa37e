"""Where the time of an update goes on one thread: parts of the first layer's step, beside their arithmetic bound."""

from __future__ import annotations

import time
from collections.abc import Callable

import numba
import numpy as np
import torch
from fastplast_kernels.optimisers import EPSILON, KEEP, NEW1, OLD1, OLD2, RATE
from fastplast_kernels.train_step import DenseLayer
from fastplast_kernels.train_step.cpu.inputs import find_nonzero
from fastplast_kernels.train_step.cpu.pixels import block_of, forward_pixels
from fastplast_kernels.train_step.cpu.plan import plan
from fastplast_kernels.train_step.cpu.records import State, layer_of
from fastplast_kernels.train_step.cpu.rules import adam, sgd
from fastplast_kernels.train_step.cpu.simd import pointer
from fastplast_kernels.train_step.cpu.update import Factors, build_updates, pointers

INPUTS, OUTPUTS, BATCH = 784, 128, 16  # the first layer of the paper's network
NONZERO = 0.19  # of the pixels of MNIST
CALLS, ROUNDS = 100, 15


@numba.njit(nogil=True)
def forward_loop(calls, network, sparse, params, scratch):
    layer, room = layer_of(network, 0), scratch.pixels.shape[1]
    find_nonzero(layer.channels, BATCH, block_of(layer.row), scratch)
    x, y, pixels = pointer(scratch.inputs), pointer(scratch.turned), pointer(scratch.pixels)
    for _ in range(calls):
        forward_pixels(layer, sparse, pointer(params), x, BATCH, pixels, room, scratch.ends, y)


def update_loop(rule: Callable) -> Callable:
    updates = build_updates(rule, regularised=False)
    of_product, of_nonzero = updates.of_product, updates.of_nonzero

    @numba.njit(nogil=True)
    def loop(calls, network, sparse, state, scratch, batch):
        layer, total, moved, zero = layer_of(network, 0), 0.0, pointers(state, scratch.births), np.int64(0)
        x, d, norms, c = pointer(scratch.inputs), pointer(scratch.turned), pointer(scratch.norms), scratch.coefficients
        factors = Factors(zero, zero + 1, zero + INPUTS, zero + INPUTS * BATCH)
        for _ in range(calls):
            if sparse:
                total += of_nonzero(
                    moved, layer.weight, layer.row, INPUTS, OUTPUTS, moved.params, layer.weight, c, np.float32(0.0), x,
                    d, scratch.examples, scratch.alive, batch, norms,
                )[0]  # fmt: skip
            else:
                total += of_product(
                    moved, layer.weight, layer.row, INPUTS, OUTPUTS, moved.params, layer.weight, c, np.float32(0.0), x,
                    factors, d, batch, norms, True,
                )[0]  # fmt: skip
        return total

    return loop


def test_first_layer(benchmark) -> None:
    benchmark.group = f"a dense layer {INPUTS} -> {OUTPUTS}, batch {BATCH}, one thread: microseconds"
    rng = np.random.default_rng(0)
    own = plan((DenseLayer(INPUTS, OUTPUTS, 0, 0),), BATCH)
    network, dense, sparse = own.network, own.scratch(INPUTS), own.scratch(INPUTS)
    w, m, v = (scale * rng.standard_normal(network.size, np.float32) for scale in (0.01, 1e-3, 1e-3))
    with_adam, with_momentum = State(w, m, np.abs(v), w), State(w, m, m, w)
    for scratch in (dense, sparse):
        scratch.inputs[:] = rng.standard_normal(BATCH * INPUTS, np.float32)
        scratch.alive[:] = 1
        # of adam, at a step size that leaves w as it is
        scratch.coefficients[[OLD1, NEW1, OLD2, RATE, EPSILON, KEEP]] = 0.9, 3.0, 0.999, -1e-9, 1e-8, 1.0
    sparse.inputs[:] *= rng.random(BATCH * INPUTS) < NONZERO
    momentum = own.scratch(INPUTS)
    momentum.inputs[:] = dense.inputs
    momentum.coefficients[[OLD1, RATE, KEEP]] = 0.9, -1e-9, 1.0
    a = torch.randn(1024, 1024)
    forward_loop(1, network, True, w, sparse)
    of_adam, of_momentum = update_loop(adam), update_loop(sgd)
    for scratch in (dense, sparse, momentum):
        scratch.turned[: BATCH * OUTPUTS] = 1e-3 * rng.standard_normal(BATCH * OUTPUTS, np.float32)
    runs: dict[str, Callable] = {
        "forward": lambda: forward_loop(CALLS, network, False, w, dense),
        "forward, zeros left out": lambda: forward_loop(CALLS, network, True, w, sparse),
        "weight gradient and Adam": lambda: of_adam(CALLS, network, False, with_adam, dense, BATCH),
        "weight gradient and Adam, zeros left out": lambda: of_adam(CALLS, network, True, with_adam, sparse, BATCH),
        "Adam alone": lambda: of_adam(CALLS, network, False, with_adam, dense, 0),
        "weight gradient and momentum": lambda: of_momentum(CALLS, network, False, with_momentum, momentum, BATCH),
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
