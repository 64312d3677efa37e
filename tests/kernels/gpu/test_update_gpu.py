"""The fused update on the GPU is the reference optimiser step, and its weights arrive in the buckets."""

import pytest
import torch
from interpreter import INTERPRETED, counted_traffic, permuted_programs, poison

pytest.importorskip("triton", reason="needs Triton")

from fastplast_kernels.update import gpu as update_gpu
from fastplast_kernels.update import launches
from fastplast_kernels.update.reference import Hyperparameters, pull_gradient, update
from fastplast_kernels.wasserstein import buckets as ops
from fastplast_kernels.wasserstein.reference import target

M, LAYERS, STRIDE = 3, [(0, 320), (320, 36), (368, 100)], 480


def hyperparameters(strength: float = 0.3) -> Hyperparameters:
    def column(*values: float) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64)

    zero = torch.zeros(M, dtype=torch.float64)
    return Hyperparameters(
        learning_rate=column(1e-2, 1e-3, 1e-4), beta1=column(0.9, 0.8, 0.9), beta2=column(0.999, 0.99, 0.9),
        epsilon=column(1e-8, 1e-6, 1e-8), momentum=zero, weight_decay=zero, strength=zero + strength,
    )  # fmt: skip


def state(device: str) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    w, g, m, init = (torch.randn(M, STRIDE, generator=generator) for _ in range(4))
    v = torch.rand(M, STRIDE, generator=generator)
    for offset, n in LAYERS:
        init[:, offset : offset + n] = init[:, offset : offset + n].sort(1).values
    inside = torch.zeros(STRIDE)
    for offset, n in LAYERS:
        inside[offset : offset + n] = 1
    return tuple(x.to(device) for x in (w * inside, g * inside, m * inside * 0.1, v * inside, init * inside))


def factors(device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """c of each layer, and of each parameter."""
    by_layer = torch.tensor([1.0 / n for _, n in LAYERS])
    by_parameter = torch.zeros(STRIDE)
    for c, (offset, n) in zip(by_layer, LAYERS):
        by_parameter[offset : offset + n] = c
    return by_layer.to(device), by_parameter.to(device)


@pytest.mark.parametrize("steps", [1, 3])
def test_steps_of_adam_with_the_pull_to_ranked_targets_equal_the_reference(steps, device):
    w, g, m, v, init = state(device)
    q, (by_layer, by_parameter), hyper = torch.zeros_like(w), factors(device), hyperparameters().to(device)
    buckets = ops.allocate(M, STRIDE, LAYERS, device)
    poison(buckets.map, buckets.base, buckets.slab, buckets.spill, buckets.spill_bucket)
    ops.warm_up(buckets, w)
    ops.insert(buckets, w)
    ops.scan(buckets)
    ops.deal(buckets, init, q)
    expected = w.clone(), m.clone(), v.clone()
    partial = torch.empty(2, M, buckets.blocks.shape[0], device=device)
    for number in range(1, steps + 1):
        before = expected[0]
        old_target = torch.zeros_like(w)
        for offset, n in LAYERS:
            part = slice(offset, offset + n)
            old_target[:, part] = target(before[:, part], init[:, part])
        pulled = pull_gradient(before, old_target, hyper.strength, by_parameter)
        count = torch.full((M,), number, device=device)
        expected = update(before, g + pulled, expected[1], expected[2], count, hyper, "adam", False)
        poison(partial)
        with permuted_programs(number):
            launches.adam(w, g, m, v, q, launches.coefficients(hyper, count), by_layer, partial, buckets)
            ops.scan(buckets)
            ops.deal(buckets, init, q)
    for got, wanted in zip((w, m, v), expected):
        torch.testing.assert_close(got, wanted, rtol=steps * 2**-20, atol=steps * 2**-23)
    for offset, n in LAYERS:
        part = slice(offset, offset + n)
        assert torch.equal(q[:, part], target(w[:, part], init[:, part])), "ranks are those of the new weights"
    penalty = torch.stack([(before - old_target)[:, a : a + n].square().sum(1) for a, n in LAYERS]).sum(0)
    change = (expected[0] - before).abs().sum(1)
    torch.testing.assert_close(partial[0].sum(1), penalty, rtol=STRIDE * 2**-20, atol=0)
    torch.testing.assert_close(partial[1].sum(1), change, rtol=STRIDE * 2**-20, atol=1e-9)


def test_strength_0_is_the_update_without_a_target_to_the_bit(device):
    by_layer, coefficients = (
        factors(device)[0],
        launches.coefficients(hyperparameters(0.0).to(device), torch.ones(M, device=device)),
    )
    results = []
    for q_value in (0.0, 5.0):
        w, g, m, v, _ = state(device)
        buckets = ops.allocate(M, STRIDE, LAYERS, device)
        partial = torch.empty(2, M, buckets.blocks.shape[0], device=device)
        launches.adam(w, g, m, v, torch.full_like(w, q_value), coefficients, by_layer, partial, buckets, insert=False)
        results.append((w, m, v))
    for one, other in zip(*results):
        assert torch.equal(one, other)


@pytest.mark.skipif(not INTERPRETED, reason="bytes are counted in the interpreter")
def test_the_update_moves_32_bytes_per_weight_and_8_more_to_insert(device):
    w, g, m, v, _ = state(device)
    weights = M * sum(n for _, n in LAYERS)
    buckets = ops.allocate(M, STRIDE, LAYERS, device)
    ops.warm_up(buckets, w)
    partial, table = torch.empty(2, M, buckets.blocks.shape[0]), launches.coefficients(hyperparameters(), torch.ones(M))
    moved = []
    for insert in (False, True):
        with counted_traffic() as traffic:
            launches.adam(w, g, m, v, torch.zeros_like(w), table, factors(device)[0], partial, buckets, insert=insert)
        moved.append(traffic)
    tables = partial.numel() * 4 + table.numel() * 4 + buckets.layers.numel() * 8 + buckets.blocks.numel() * 4 + 16
    assert abs(moved[0].bytes_read + moved[0].bytes_written - 32 * weights) <= tables
    assert moved[1].bytes_written - moved[0].bytes_written == 8 * weights
    assert moved[1].additions == weights


@pytest.mark.skipif(not INTERPRETED, reason="launches are counted in the interpreter")
def test_exact_ranks_take_two_launches_beyond_the_update(device):
    w, g, m, v, init = state(device)
    buckets = ops.allocate(M, STRIDE, LAYERS, device)
    ops.warm_up(buckets, w)
    partial, table = torch.empty(2, M, buckets.blocks.shape[0]), launches.coefficients(hyperparameters(), torch.ones(M))
    with counted_traffic() as step:
        launches.adam(w, g, m, v, torch.zeros_like(w), table, factors(device)[0], partial, buckets)
        ops.scan(buckets)
        ops.deal(buckets, init, torch.zeros_like(w))
    assert step.launches == 1 + 2


def test_coefficients_have_a_name_each(device):
    assert launches.coefficients(hyperparameters(), torch.ones(M)).shape == (M, len(update_gpu.COEFFICIENTS))
