"""Dropout masks: the published generator, and what a mask depends on."""

import math

import pytest
import torch
from assertions import assert_same_bits
from fastplast_kernels.dropout import dropout_mask, philox

KEYS = torch.tensor([[1, 2], [3, 4], [0xFFFFFFFF, 0xFFFFFFFF]])
UPDATES = torch.tensor([0, 7, 1 << 33])


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ([0, 0], [0, 0, 0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 2, [0xFFFFFFFF] * 4, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        ([0xA4093822, 0x299F31D0], [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
         [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]),
    ],
)  # fmt: skip
def test_philox_gives_the_published_numbers(key, counter, expected):
    found = philox(tuple(torch.tensor([w]) for w in key), tuple(torch.tensor([w]) for w in counter))
    assert [int(word) for word in found] == expected


def test_a_member_has_its_mask_alone_and_in_any_batch():
    mask = dropout_mask(KEYS, UPDATES, 1, (5, 7), 0.3)
    for m in range(3):
        assert_same_bits("alone", dropout_mask(KEYS[m : m + 1], UPDATES[m : m + 1], 1, (5, 7), 0.3)[0], mask[m])
    assert_same_bits("a ragged batch", dropout_mask(KEYS, UPDATES, 1, (3, 7), 0.3), mask[:, :3])


def test_masks_differ_between_members_updates_and_layers():
    mask = dropout_mask(KEYS, UPDATES, 0, (8, 16), 0.5)
    others = [mask[[1, 2, 0]], dropout_mask(KEYS, UPDATES + 1, 0, (8, 16), 0.5)]
    others += [dropout_mask(KEYS, UPDATES, 1, (8, 16), 0.5), dropout_mask(KEYS, UPDATES + (1 << 32), 0, (8, 16), 0.5)]
    for other in others:
        assert ((mask != other).flatten(1).sum(1) > 32).all()


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_masks_drop_their_rate_and_keep_the_mean(rate):
    mask = dropout_mask(KEYS, UPDATES, 0, (100, 300), rate)
    assert set(mask.unique().tolist()) == {0.0, float(torch.tensor(1.0 / (1.0 - rate)))}
    assert abs(float((mask == 0).double().mean()) - rate) < 4 * math.sqrt(rate * (1 - rate) / mask.numel())
