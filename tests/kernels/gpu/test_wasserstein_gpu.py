"""Bucketed ranks on the GPU equal a stable argsort, whatever the map, the order of programs and the rows."""

import numpy as np
import pytest
import torch
from assertions import NothingWaitsForTheHost
from interpreter import INTERPRETED, counted_traffic, permuted_programs, poison
from torch import Tensor
from wasserstein_rows import rows

pytest.importorskip("triton", reason="needs Triton")

from fastplast_kernels.wasserstein import buckets as ops
from fastplast_kernels.wasserstein import gpu_rows, penalty, sort_init, wasserstein_penalty
from fastplast_kernels.wasserstein.reference import penalty as reference_penalty
from fastplast_kernels.wasserstein.reference import target

pytestmark = pytest.mark.usefixtures("small_buckets")
SIZES = (1, 2, 33, 200) if INTERPRETED else (1, 2, 31, 256, 257, 4001, 100_352, 300_000)


def distributions(n: int) -> dict[str, Tensor]:
    return {name: torch.from_numpy(row.astype(np.float32)) for name, row in rows(n).items()}


def quantiles(n: int) -> Tensor:
    return torch.from_numpy(np.sort(np.random.default_rng(7).standard_normal(n).astype(np.float32)))


def poisoned_buckets(members: int, stride: int, layers: list[tuple[int, int]], device: str) -> ops.Buckets:
    """Buckets in which everything that `clear` does not set is poisoned."""
    new = ops.allocate(members, stride, layers, device)
    poison(new.map, new.base, new.slab, new.spill_base, new.spill, new.spill_bucket, new.spilled, new.ranked)
    return new


def step(buckets: ops.Buckets, w: Tensor, init: Tensor) -> Tensor:
    q = torch.empty_like(w)
    poison(q)
    ops.insert(buckets, w)
    ops.scan(buckets)
    ops.deal(buckets, init, q)
    return q


@pytest.mark.parametrize("n", SIZES)
def test_targets_equal_a_stable_argsort_in_any_order_of_programs(n, device):
    rows = distributions(n)
    w, init = torch.stack(list(rows.values())).to(device), quantiles(n).expand(len(rows), n).contiguous().to(device)
    buckets = poisoned_buckets(len(rows), n, [(0, n)], device)
    with permuted_programs(seed=n):
        ops.warm_up(buckets, w)
        q = step(buckets, w, init)
    expected = target(w, init)
    for name, got, row in zip(rows, q, expected):
        assert torch.equal(got, row), name
    assert buckets.ranked.all()


def test_ranks_are_exact_whichever_rows_spill_full_size(device):
    n = 600
    rows = distributions(n)
    before, w = (
        torch.stack([rows[name] for name in names]).to(device) for names in (("uniform",) * 2, ("gaussian", "huge"))
    )
    init = quantiles(n).expand(2, n).contiguous().to(device)
    buckets = poisoned_buckets(2, n, [(0, n)], device)
    ops.warm_up(buckets, before)
    assert torch.equal(step(buckets, w, init), target(w, init))
    assert (buckets.spilled > 0).all()


def test_ranks_are_exact_with_the_map_of_any_other_distribution(device):
    n = SIZES[-1]
    rows = distributions(n)
    maps = [("uniform", "heavy-tailed"), ("denormals", "gaussian"), ("gaussian", "uniform"), ("constant", "sorted")]
    before = torch.stack([rows[a] for a, _ in maps]).to(device)
    w = torch.stack([rows[b] for _, b in maps]).to(device)
    init = quantiles(n).expand(len(maps), n).contiguous().to(device)
    buckets = poisoned_buckets(len(maps), n, [(0, n)], device)
    ops.warm_up(buckets, before)
    assert torch.equal(step(buckets, w, init), target(w, init))
    assert (buckets.spilled > 0).any()


def test_buckets_fill_evenly_again_two_steps_after_the_distribution_changed(device):
    n = SIZES[-1]
    rows = distributions(n)
    before, w = rows["uniform"][None].to(device), rows["heavy-tailed"][None].to(device)
    init = quantiles(n)[None].to(device)
    buckets = poisoned_buckets(1, n, [(0, n)], device)
    ops.warm_up(buckets, before)
    spills = []
    for _ in range(3):
        assert torch.equal(step(buckets, w, init), target(w, init))
        spills.append(int(buckets.spilled))
    assert spills[0] > 0
    assert spills[2] <= spills[0] / 4


@pytest.mark.parametrize("members", [1, 3] if INTERPRETED else [1, 3, 30])
def test_layers_of_different_lengths_are_ranked_in_one_launch(members, device):
    layers, stride = [(0, 100), (112, 33), (160, 1), (176, 200)], 384
    generator = torch.Generator().manual_seed(members)
    w, init = (torch.randn(members, stride, generator=generator) for _ in range(2))
    for offset, n in layers:
        init[:, offset : offset + n] = init[:, offset : offset + n].sort(1).values
    w, init = w.to(device), init.to(device)
    buckets = poisoned_buckets(members, stride, layers, device)
    with permuted_programs(members):
        ops.warm_up(buckets, w)
        q = step(buckets, w, init)
    for offset, n in layers:
        part = slice(offset, offset + n)
        assert torch.equal(q[:, part], target(w[:, part], init[:, part]))
        q[:, part] = torch.nan
    assert q.isnan().all(), "wrote outside the layers"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_row_that_is_not_finite_is_flagged_keeps_its_target_and_harms_no_other(bad, device):
    n = 100
    good = torch.randn(3, n, generator=torch.Generator().manual_seed(0)).to(device)
    init = quantiles(n).expand(3, n).contiguous().to(device)
    w = good.clone()
    w[1, 17] = bad
    buckets = poisoned_buckets(3, n, [(0, n)], device)
    ops.warm_up(buckets, w)
    q = step(buckets, w, init)
    assert buckets.ranked.flatten().tolist() == [1, 0, 1]
    assert torch.equal(q[::2], target(w, init)[::2])
    assert q[1].isnan().all()
    assert torch.equal(step(buckets, good, init), target(good, init)), "the row recovers"


def test_penalty_and_gradient_are_those_of_the_formula(device):
    n = 130
    w = torch.randn(3, n, generator=torch.Generator().manual_seed(3)).to(device)
    init = quantiles(n).expand(3, n).contiguous().to(device)
    distance = w - target(w, init)
    for c in (1.0 / n, 1.0):
        value, gradient = gpu_rows.penalty_and_gradient(w, init, c)
        assert torch.equal(gradient, torch.tensor(2.0 * c, device=device) * distance)
        expected = c * distance.double().square().sum(1)
        torch.testing.assert_close(value.double(), expected, rtol=n * 2**-24, atol=0)
    w[1, 7] = torch.inf
    value, gradient = gpu_rows.penalty_and_gradient(w, init, 1.0)
    assert value.isfinite().tolist() == [True, False, True]
    assert gradient[1].isnan().all()
    assert gradient[::2].isfinite().all()


def test_rows_of_any_shape_share_initial_weights(device):
    n = 70
    w = torch.randn(2, 2, n, generator=torch.Generator().manual_seed(4)).to(device)
    init = quantiles(n).to(device)
    assert torch.equal(gpu_rows.target(w, init), target(w, init))
    assert torch.equal(gpu_rows.target(w[0, 0], init), target(w[0, 0], init))
    value, gradient = gpu_rows.penalty_and_gradient(w, init, 0.5)
    assert (value.shape, gradient.shape) == ((2, 2), (2, 2, n))


def test_more_rows_than_a_launch_has_are_several_launches(device, monkeypatch):
    n = 33
    w = torch.randn(5, n, generator=torch.Generator().manual_seed(5)).to(device)
    init = quantiles(n).to(device)
    whole = gpu_rows.penalty_and_gradient(w, init, 0.5)
    monkeypatch.setattr(gpu_rows, "MOST_ROWS", 2)
    assert torch.equal(gpu_rows.target(w, init), target(w, init))
    assert all(torch.equal(one, other) for one, other in zip(gpu_rows.penalty_and_gradient(w, init, 0.5), whole))


def test_targets_of_an_update_can_be_captured(device):
    n = 33
    w, init = torch.randn(2, n).to(device), quantiles(n).to(device)
    gpu_rows.target(w, init)  # tables are copied to the device once
    with NothingWaitsForTheHost():
        gpu_rows.target(w, init)


if not INTERPRETED:  # tensors on the CPU go to the kernels of the CPU

    def test_the_loss_term_goes_to_the_kernels_of_its_device(device):
        w = torch.randn(40, 50, device=device, requires_grad=True)
        init = sort_init(torch.randn(40, 50, device=device))
        penalty(w, init).backward()
        assert torch.equal(w.grad.flatten(), wasserstein_penalty(w.flatten()[None], init[None])[1][0])
        expected = reference_penalty(w.detach().cpu().flatten(), init.cpu())
        torch.testing.assert_close(penalty(w, init).cpu(), expected)


@pytest.mark.skipif(not INTERPRETED, reason="bytes are counted in the interpreter")
def test_bytes_of_a_step_are_those_accounted_for_full_size(device):
    n = 4001
    w, init = distributions(n)["uniform"][None], quantiles(n)[None]
    buckets = poisoned_buckets(1, n, [(0, n)], device)
    ops.warm_up(buckets, w)
    q, account = torch.empty_like(w), ops.bytes_per_weight(n)
    with counted_traffic() as insert:
        ops.insert(buckets, w)
    with counted_traffic() as scan:
        ops.scan(buckets)
    with counted_traffic() as rank:
        ops.deal(buckets, init, q)
    tables = 4 * 8 + 64 * 8  # a row of `layers`, a few of `blocks` or `groups`, flags
    assert insert.additions == n
    assert insert.bytes_written == 8 * n
    assert insert.bytes_read + insert.bytes_written - 4 * n <= account["insert"] * n + tables
    assert abs(scan.bytes_read + scan.bytes_written - account["scan"] * n) <= tables
    assert rank.additions == 0
    assert abs(rank.bytes_read + rank.bytes_written - account["rank"] * n) <= tables


def test_at_most_28_bytes_per_weight_beyond_the_update_of_the_first_layer():
    total = sum(ops.bytes_per_weight(784 * 128).values())
    assert total <= 28
