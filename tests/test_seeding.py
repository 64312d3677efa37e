import math
from hashlib import blake2b
from itertools import product

import numpy as np
import pytest

from fastplast.seeding import PURPOSES, normal, orders, permutation, uniform, words

MASK = (1 << 64) - 1


def philox(key: int, count: int) -> list[int]:
    """Philox4x64-10 of Salmon et al. 2011, written out; the counter of the first block is 1."""
    out: list[int] = []
    for block in range(1, -(-count // 4) + 1):
        c0, c1, c2, c3 = block, 0, 0, 0
        k0, k1 = key & MASK, key >> 64
        for _ in range(10):
            p0, p1 = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
            c0, c1, c2, c3 = (p1 >> 64) ^ c1 ^ k0, p1 & MASK, (p0 >> 64) ^ c3 ^ k1, p0 & MASK
            k0, k1 = (k0 + 0x9E3779B97F4A7C15) & MASK, (k1 + 0xBB67AE8584CAA73B) & MASK
        out += [c0, c1, c2, c3]
    return out[:count]


def test_words_are_philox_keyed_by_the_hash_of_the_name() -> None:
    key = blake2b(b"fastplast/1/7/order/2/3", digest_size=16).digest()
    assert words(7, "order", 11, task=2, epoch=3).tolist() == philox(int.from_bytes(key, "little"), 11)


def test_known_answers_of_the_seed_contract() -> None:
    assert words(0, "init", 3).tolist() == [0xB04C5550A040000E, 0xF7E5A3A1EA718555, 0xD32C611EFAE6C083]
    assert words(7, "order", 2, 2, 3).tolist() == [0xF73FBCBDBEBC9927, 0xE09B90DBD3993C61]
    assert permutation(3, "labels", 10, 1).tolist() == [7, 9, 2, 8, 4, 0, 6, 5, 1, 3]
    assert [x.hex() for x in uniform(1, "pixels", 2, 4)] == ["0x1.aea86cee9b4b3p-1", "0x1.a23491a27fba1p-1"]
    np.testing.assert_allclose(normal(2, "init", 3, 5), [-1.30751684, 1.53562637, 0.47654682], rtol=1e-8)
    assert orders([0, 5], 7, 3, 1, 2).tolist() == [
        [[5, 0, 1], [4, 2, 6], [3, -1, -1]],
        [[5, 3, 6], [0, 1, 2], [4, -1, -1]],
    ]
    first = ("subset", "init", "labels", "pixels", "order", "module", "classes", "head", "dropout")
    assert (*first, "reset", "noise", "method", "problem", "test_labels") == PURPOSES


def test_streams_differ_by_every_part_of_the_name() -> None:
    names = [(s, p, t, e) for s in (0, 1, 11) for p in PURPOSES for t in (0, 1, 11) for e in (0, 1, 11)]
    drawn = np.stack([words(s, p, 4, t, e) for s, p, t, e in names])
    assert len(np.unique(drawn)) == drawn.size


@pytest.mark.parametrize("draw", [words, uniform])
def test_a_shorter_draw_is_a_prefix_of_a_longer_one(draw) -> None:
    assert draw(3, "init", 100, 1)[:7].tolist() == draw(3, "init", 7, 1).tolist()


@pytest.mark.parametrize("draw", [words, uniform, normal, permutation])
def test_a_draw_does_not_depend_on_draws_before_it(draw) -> None:
    first = draw(3, "labels", 9, 1)
    draw(4, "labels", 100, 1)
    np.random.default_rng(0).random(3)
    assert draw(3, "labels", 9, 1).tolist() == first.tolist()


def test_draws_have_the_asked_length_and_type() -> None:
    types = {words: np.uint64, uniform: np.float64, normal: np.float64, permutation: np.int64}
    for (draw, dtype), count in product(types.items(), (0, 1, 2, 5)):
        drawn = draw(0, "init", count)
        assert (drawn.shape, drawn.dtype) == ((count,), dtype), (draw, count)


@pytest.mark.parametrize("length", [1, 2, 17, 1280])
def test_permutations_are_permutations(length: int) -> None:
    assert sorted(permutation(5, "labels", length, 3)) == list(range(length))


def test_permutations_sort_the_words_of_their_stream() -> None:
    drawn = words(5, "labels", 50, 3)
    assert (np.diff(drawn[permutation(5, "labels", 50, 3)].astype(object)) > 0).all()


def test_all_permutations_are_equally_likely() -> None:
    codes = [int(permutation(seed, "labels", 3) @ [9, 3, 1]) for seed in range(3000)]
    counts = np.unique(codes, return_counts=True)[1]
    chi_square = ((counts - 500) ** 2 / 500).sum()
    assert len(counts) == 6
    assert chi_square < 20.5  # 99.9 % of chi-square with 5 degrees of freedom


def test_uniform_numbers_have_53_bits_and_uniform_moments() -> None:
    u = uniform(0, "init", 20_000)
    assert u.min() >= 0.0
    assert u.max() < 1.0
    assert (u * 2.0**53 == np.floor(u * 2.0**53)).all()
    error = 4 / math.sqrt(len(u))  # four standard errors of a variable with deviation 1
    assert abs(u.mean() - 0.5) < error * math.sqrt(1 / 12)
    assert abs(u.var() - 1 / 12) < error * math.sqrt(1 / 180)


def test_normal_numbers_have_normal_moments() -> None:
    z = normal(0, "init", 20_001)
    error = 4 / math.sqrt(len(z))
    assert abs(z.mean()) < error
    assert abs(z.var() - 1) < error * math.sqrt(2)
    assert abs((z**4).mean() - 3) < error * math.sqrt(96)
    assert np.isfinite(z).all()


@pytest.mark.parametrize(("examples", "batch_size"), [(12, 4), (13, 4), (3, 3), (5, 1), (1, 1)])
def test_orders_cover_every_example_once(examples: int, batch_size: int) -> None:
    order = orders([2, 9, 2], examples, batch_size, task=1, epoch=4)
    steps = math.ceil(examples / batch_size)
    assert (order.shape, order.dtype) == ((3, steps, batch_size), np.int64)
    for member in order.reshape(3, -1):
        assert sorted(member[member >= 0]) == list(range(examples))
        assert (member[examples:] == -1).all()


def test_orders_of_a_member_depend_on_its_seed_alone() -> None:
    together = orders([4, 8, 4], 10, 3, 0, 0)
    assert (together[1] == orders([8], 10, 3, 0, 0)[0]).all()
    assert (together[0] == together[2]).all()
    assert (together[0] != together[1]).any()


def test_orders_differ_from_epoch_to_epoch_and_task_to_task() -> None:
    drawn = {orders([0], 30, 5, task, epoch).tobytes() for task in range(3) for epoch in range(3)}
    assert len(drawn) == 9


def test_an_unknown_purpose_is_refused_with_the_list() -> None:
    with pytest.raises(ValueError, match=r"purpose must be a known stream: got 'weights'. Known: subset, init"):
        words(0, "weights", 1)
