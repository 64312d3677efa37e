"""Masks of dropout on the GPU, and what modifies perceptrons: layers with CReLU, dropout or normalisation."""

from dataclasses import replace

import pytest
import torch
from assertions import assert_same_bits
from mlp_case import make_case
from test_mlp_step_gpu import steady_case
from trained import STATE, check, step_of, to, train

pytest.importorskip("triton", reason="needs Triton")

import triton
import triton.language as tl
from fastplast_kernels.dropout.gpu import dropout_mask
from fastplast_kernels.dropout.reference import dropout_mask as defined_mask
from fastplast_kernels.train_step import launches

pytestmark = pytest.mark.usefixtures("small_buckets", "small_tiles")


@triton.jit
def mask_kernel(streams_ptr, out_ptr, update, number, threshold, factor_ptr, count, BLOCK: tl.constexpr):
    member, index = tl.program_id(0), tl.arange(0, BLOCK)
    factor, wide = tl.load(factor_ptr), tl.zeros([1], tl.int64)
    mask = dropout_mask(streams_ptr + 3 * member, wide + update, wide + number, wide + threshold, factor, index)
    tl.store(out_ptr + member * count + index, mask, mask=index < count)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.999])
def test_masks_are_those_of_the_definition_to_the_bit(rate, device):
    keys = torch.tensor([[1, 2], [0xFFFFFFFF, 0xFFFFFFFF], [0xA4093822, 0x299F31D0]])
    before, at, shape = torch.tensor([0, (1 << 33) + 7, (1 << 32) - 2]), 3, (7, 13)
    streams = torch.cat((keys, before[:, None]), 1).to(device)
    out, factor = torch.full((3, *shape), torch.nan, device=device), torch.tensor([1 / (1 - rate)], device=device)
    mask_kernel[(3,)](streams, out, at, 2, int(rate * 2**32), factor, 91, BLOCK=128)
    assert_same_bits("masks", out.cpu(), defined_mask(keys, before + at, 2, shape, rate))


CHANGES = {
    "dropout": ({"activation": "tanh", "dropout": 0.4}, (6, 1, 9, 3), 17, "sgd", "none"),
    "crelu": ({"activation": "crelu"}, (9, 17, 5, 4), 5, "adamw", "l2"),
    "norm": ({"activation": "leaky_relu", "norm": True}, (9, 17, 4), 5, "adam", "regenerative"),
    "all": ({"activation": "crelu", "norm": True, "dropout": 0.3}, (5, 7, 3), 5, "adam", "wasserstein"),
}
ALL = CHANGES["all"][0]


@pytest.mark.parametrize(("change", "sizes", "batch", "optimizer", "pull"), CHANGES.values(), ids=CHANGES)
def test_modified_networks_equal_the_definition(change, sizes, batch, optimizer, pull, device):
    """With ragged batches, weight decay, poisoned memory, and programs in any order."""
    case = steady_case(
        sizes, members=2, batch=batch, steps=3, ragged=True, permuted=True, pull=pull, optimizer=optimizer,
        decoupled=optimizer == "adamw", **change,
    )  # fmt: skip
    case.hyper.weight_decay[:] = torch.tensor([0.0, 0.05])
    check(case, device, poisoned=True, seed=1)


def test_many_modified_steps_equal_the_definition(device):
    check(steady_case((4, 3, 2), members=1, batch=3, steps=20, **ALL), device)


@pytest.mark.parametrize(("small", "expected"), [(0, 15), (120, 7)])
def test_large_modified_layers_are_spread_over_programs(small, expected, device, monkeypatch):
    monkeypatch.setattr(launches, "SMALL", small)
    case = steady_case((6, 17, 4, 3, 2), members=1, batch=3, steps=1, **ALL)
    assert step_of(to(case, device)).launches == expected
    check(case, device, poisoned=True, seed=3)


def test_a_modified_member_has_the_same_bits_alone_and_in_parts(device):
    case = make_case((5, 4, 3), members=2, batch=3, steps=2, **ALL)
    together, alone, parts = to(case, device), to(case.pick([1]), device), to(case, device)
    train(together)
    train(alone, seed=5)
    for order in parts.order.split(1, 1):
        train(replace(parts, order=order.contiguous()))
    for name in STATE:
        assert_same_bits(name, getattr(alone, name), getattr(together, name)[1:])
        assert_same_bits(name, getattr(parts, name), getattr(together, name))


def test_dropout_without_keys_is_refused(device):
    with pytest.raises(ValueError, match="keys must be given where a layer has dropout: got None"):
        step_of(replace(to(make_case((5, 4, 3), dropout=0.5), device), keys=None))
