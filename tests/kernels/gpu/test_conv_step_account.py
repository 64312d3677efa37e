"""What the account of a convolutional network says is what its kernels load and store, and what its table says."""

from functools import partial
from math import prod
from pathlib import Path

import pytest
from interpreter import INTERPRETED

pytest.importorskip("triton", reason="needs Triton")

import conv_account as account
import mlp_account as dense
from fastplast_kernels.proofs.convolutions import conv_layers, step_of
from fastplast_kernels.proofs.perceptrons import zero_step
from fastplast_kernels.train_step import launches
from fastplast_kernels.train_step.gpu_conv_launches import convolutions_of
from traffic import check_traffic

README = Path(launches.__file__).with_name("README.md")

if INTERPRETED:  # bytes are counted there

    @pytest.mark.parametrize("options", [{}, {"pull": "target", "permuted": True}, {"optimizer": "sgd"}])
    @pytest.mark.parametrize("small", [0, 1 << 16])
    def test_bytes_accounted_for_are_those_loaded_and_stored(options, small, monkeypatch):
        monkeypatch.setattr(launches, "SMALL", small)
        shape = (3, 8, 8)
        layers, size = conv_layers(shape, (6, 17), (12, 5))
        check_traffic(zero_step(layers, size, prod(shape), below=convolutions_of(layers), **options), account.account)

    def test_bytes_accounted_for_are_those_loaded_and_stored_with_pooling():
        shape = (1, 12, 12)
        layers, size = conv_layers(shape, (2, 3), (4, 2), pooled=True)
        check_traffic(zero_step(layers, size, prod(shape), below=convolutions_of(layers)), account.account)


@pytest.mark.parametrize("pooled", [False, True])
def test_an_update_of_three_convolutions_has_ten_launches_each_accounted_for(pooled):
    step = step_of(pooled)
    assert step.launches == len(launches.launches(step)) == len(account.account(step)) == 10


def test_products_are_those_of_three_passes():
    step = step_of()
    products = [layer.inputs * layer.outputs * layer.positions for layer in step.layers]
    flops = sum(cost.flops for cost in account.account(step).values())
    assert flops == 2 * 16 * (3 * sum(products) - products[0])  # the first layer has no gradient of its inputs


@pytest.mark.parametrize("pooled", [False, True])
def test_the_table_is_what_the_account_says(pooled):
    assert dense.table(partial(step_of, pooled), account.account) in README.read_text(encoding="utf-8")
