"""What the account of the training step says is what its kernels load and store, and what its table says."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from interpreter import INTERPRETED, counted_traffic

pytest.importorskip("triton", reason="needs Triton")

from fastplast_kernels.mlp_step import account, gpu, launches
from fastplast_kernels.mlp_step.configurations import SIZES, step_of

README = Path(account.__file__).with_name("README.md")


def traffic(step: launches.Step) -> list:
    """Of each launch of an update of one member."""
    step.members[:, gpu.LIMIT] = 1
    step.coefficients.fill_(1.0)
    counted = []
    for launch in launches.launches(step):
        with counted_traffic() as seen:
            launch()
        counted.append(seen)
    return counted


if INTERPRETED:  # bytes are counted there

    @pytest.mark.parametrize(
        ("sizes", "small", "options"),
        [
            ((96, 32, 16, 10), 1 << 16, {}),
            ((96, 32, 16, 10), 1 << 16, {"pull": "target", "permuted": True}),
            ((96, 32, 16, 10), 1 << 16, {"optimizer": "sgd", "pull": "zero"}),
            ((48, 33, 20, 16, 7), 400, {}),
            ((48, 33, 20, 16, 7), 0, {}),
        ],
    )
    def test_bytes_accounted_for_are_those_loaded_and_stored(sizes, small, options, monkeypatch):
        monkeypatch.setattr(launches, "SMALL", small)
        step = step_of(sizes, **options)
        step.order.copy_(torch.arange(16))
        step.rows.copy_(torch.arange(16))
        step = type(step)(**vars(step) | {"images": torch.zeros(16, sizes[0], dtype=torch.uint8)})
        tables = 8 * (step.table.numel() + step.factors.numel() + 40) + 12 * step.tiles.shape[0]
        costs = account.account(step)
        for (name, cost), seen in zip(costs.items(), traffic(step), strict=True):
            moved = seen.bytes_read + seen.bytes_written
            assert abs(moved - cost.bytes) <= tables, f"{name}: {moved}, accounted for {cost.bytes}"
            assert seen.additions == 0

    def test_an_update_makes_as_many_launches_as_it_says():
        for options in ({}, {"pull": "ranked"}):
            step = step_of((20, 8, 4), **options)
            with counted_traffic() as seen:
                launches.update(step)
            assert seen.launches == step.launches == (5 if options else 3)


def test_products_are_those_of_three_passes():
    step = step_of()
    weights = [i * o for i, o in pairwise(SIZES)]  # the first layer has no gradient of its inputs
    flops = sum(cost.flops for cost in account.account(step).values())
    assert flops == 2 * 16 * (3 * sum(weights) - weights[0])


def test_the_state_takes_28_bytes_per_parameter_and_4_more_with_a_target():
    assert account.bytes_per_parameter(step_of())[0] == 28
    assert account.bytes_per_parameter(step_of(pull="zero"))[0] == 28
    assert account.bytes_per_parameter(step_of(pull="target"))[0] <= 32
    assert account.bytes_per_parameter(step_of(pull="ranked"))[0] <= 60


def test_large_ensembles_are_bound_by_memory():
    step = step_of()
    seconds = account.estimate(step, 1000)
    moved = 1000 * sum(cost.bytes for cost in account.account(step).values())
    assert sum(seconds.values()) <= 1.2 * moved / account.BANDWIDTH


def test_the_table_is_what_the_account_says():
    assert account.table() in README.read_text(encoding="utf-8")
