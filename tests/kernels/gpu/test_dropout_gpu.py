"""Masks of dropout on the GPU, and what modifies perceptrons: layers with CReLU, dropout or normalisation."""

import pytest
import torch
from assertions import assert_same_bits
from test_mlp_step_gpu import steady_case
from trained import check

pytest.importorskip("triton", reason="needs Triton")

import triton
import triton.language as tl
from fastplast_kernels.dropout.gpu import dropout_mask
from fastplast_kernels.dropout.reference import dropout_mask as defined_mask

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
    "dropout": {"activation": "tanh", "dropout": 0.4},
    "crelu": {"activation": "crelu"},
    "both": {"activation": "crelu", "dropout": 0.3},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize(
    ("sizes", "batch", "optimizer", "pull"),
    [((9, 17, 5, 4), 5, "adam", "l2"), ((5, 7, 3), 5, "adamw", "wasserstein"), ((6, 1, 9, 3), 17, "sgd", "none")],
)
def test_modified_networks_equal_the_definition(change, sizes, batch, optimizer, pull, device):
    """With ragged batches, weight decay, poisoned memory, and programs in any order."""
    case = steady_case(
        sizes, members=2, batch=batch, steps=3, ragged=True, permuted=True, pull=pull, optimizer=optimizer,
        decoupled=optimizer == "adamw", **change,
    )  # fmt: skip
    case.hyper.weight_decay[:] = torch.tensor([0.0, 0.05])
    check(case, device, poisoned=True, seed=1)
