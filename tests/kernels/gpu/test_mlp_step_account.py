"""What the account of the training step says is what its kernels load and store, and what its table says."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from interpreter import INTERPRETED, counted_traffic

pytest.importorskip("triton", reason="needs Triton")

import mlp_account as account
from fastplast_kernels.optimisers import Hyperparameters
from fastplast_kernels.proofs.perceptrons import SIZES, step_of
from fastplast_kernels.train_step import launches, training
from traffic import check_traffic

README = Path(launches.__file__).with_name("README.md")


if INTERPRETED:  # bytes are counted there

    @pytest.mark.parametrize(
        ("sizes", "small", "options"),
        [
            ((96, 32, 16, 10), 1 << 16, {}),
            ((96, 32, 16, 10), 1 << 16, {"pull": "target", "permuted": True}),
            ((96, 32, 16, 10), 1 << 16, {"optimizer": "sgd", "pull": "zero"}),
            ((48, 33, 20, 16, 7), 400, {}),
            ((48, 33, 20, 16, 7), 0, {}),
            ((96, 32, 16, 10), 1 << 16, {"dropout": 0.5}),
        ],
    )
    def test_bytes_accounted_for_are_those_loaded_and_stored(sizes, small, options, monkeypatch):
        monkeypatch.setattr(launches, "SMALL", small)
        step = step_of(sizes, **options)
        check_traffic(step, account.account)

    def test_ranked_targets_take_8_bytes_and_one_addition_per_weight_more_to_insert():
        seen = []
        for pull in ("target", "ranked"):
            step = step_of((20, 8, 4), pull=pull)
            one = torch.ones(1, dtype=torch.float64)
            training.begin(step, Hyperparameters(*[0.5 * one] * 7), torch.zeros(1), torch.ones(1))
            for launch in launches.launches(step):
                with counted_traffic() as last:
                    launch()
            seen.append(last)
        weights = sum(layer.inputs * layer.outputs for layer in step.layers)
        assert seen[1].bytes_written - seen[0].bytes_written == 8 * weights
        assert (seen[0].additions, seen[1].additions) == (0, weights)

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


def per_parameter(**options: object) -> float:
    step = step_of(**options)
    return account.bytes_per_parameter(step, account.account(step))[0]


def test_the_state_takes_28_bytes_per_parameter_and_4_more_with_a_target():
    assert per_parameter() == 28
    assert per_parameter(pull="zero") == 28
    assert per_parameter(pull="target") <= 32
    assert per_parameter(pull="ranked") <= 60


def test_dropout_moves_no_more_bytes_and_what_is_not_accounted_for_is_refused():
    plain, dropping = (account.account(step_of(dropout=rate)) for rate in (0.0, 0.5))
    assert plain == dropping
    with pytest.raises(ValueError, match="layers must be plain or have dropout: got NORM, CRELU"):
        account.account(step_of(activation="crelu", norm=True))


def test_large_ensembles_are_bound_by_memory():
    costs = account.account(step_of())
    seconds = account.estimate(costs, 1000)
    moved = 1000 * sum(cost.bytes for cost in costs.values())
    assert sum(seconds.values()) <= 1.2 * moved / account.BANDWIDTH


def test_the_table_is_what_the_account_says():
    assert account.table(step_of) in README.read_text(encoding="utf-8")
