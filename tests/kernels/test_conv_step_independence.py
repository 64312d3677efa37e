"""What a convolutional member's bits do not depend on, members that diverge, and what `train` refuses."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from assertions import assert_same_bits
from conv_case import ConvCase, make_conv_case
from fastplast_kernels.train_step.cpu import step
from fastplast_kernels.train_step.cpu.conv import backward_taps, forward_taps
from fastplast_kernels.train_step.reference import bias_of

STATE = ("params", "m", "v", "steps", "diverged")


def assert_same_member(a: ConvCase, i: int, b: ConvCase, j: int) -> None:
    for name in STATE:
        assert_same_bits(name, getattr(a, name)[i], getattr(b, name)[j])


def mixed(**fields: object) -> ConvCase:
    """Members that differ in all they can."""
    if fields.get("pool"):
        fields |= {"shape": (3, 12, 13), "convolutions": ((5, 5, 1, 0), (4, 3, 1, 0))}
    return make_conv_case(members=5, pull="mixed", ragged=True, permuted=True, activation="tanh", **fields)


@pytest.mark.parametrize(("optimizer", "fields"), [("adam", {}), ("sgd", {}), ("adam", {"pool": 2})])
def test_member_is_independent_of_its_batch_mates(optimizer: str, fields: dict) -> None:
    together = mixed(optimizer=optimizer, **fields)
    turned, alone = together.pick([4, 2, 0, 3, 1]), [together.pick([i]) for i in range(5)]
    sums = together.train()
    for i, sums_turned in zip((4, 2, 0, 3, 1), zip(*turned.train())):
        assert list(sums_turned) == [x[i] for x in sums]
    for i, place in enumerate((2, 4, 1, 3, 0)):
        alone[i].train()
        assert_same_member(alone[i], 0, together, i)
        assert_same_member(turned, place, together, i)


@pytest.mark.parametrize("fields", [{}, {"pool": 2}])
def test_member_is_independent_of_the_number_of_threads(fields: dict) -> None:
    one, two, many = (mixed(**fields) for _ in range(3))
    sums = [one.train(threads=1), two.train(threads=2), many.train(threads=9)]
    for other, found in ((two, sums[1]), (many, sums[2])):
        for i in range(5):
            assert_same_member(one, i, other, i)
        assert all(torch.equal(a, b) for a, b in zip(found, sums[0]))


@pytest.mark.parametrize("fields", [{}, {"pool": 2}])
def test_steps_may_be_split_into_calls(fields: dict) -> None:
    whole, parts = mixed(**fields), mixed(**fields)
    total = whole.train()
    loss = torch.zeros(5, dtype=torch.float64)
    for start, end in ((0, 1), (1, 8), (8, 20)):
        loss += parts.train(order=parts.order[:, start:end].contiguous()).loss
    for i in range(5):
        assert_same_member(whole, i, parts, i)
    torch.testing.assert_close(loss, total.loss, rtol=1e-14, atol=0)


def test_padding_stays_zero() -> None:
    case = mixed()
    case.train()
    for name in ("params", "m", "v"):
        assert (getattr(case, name)[:, ~case.is_parameter()] == 0).all()


def test_a_strength_of_zero_is_no_regulariser_to_the_bit() -> None:
    plain, pulled = make_conv_case(), make_conv_case(pull="wasserstein")
    pulled.hyper.strength[:] = 0
    plain.train()
    pulled.train()
    for i in range(3):
        assert_same_member(plain, i, pulled, i)


def test_a_batch_of_infinite_loss_changes_nothing_of_the_member() -> None:
    case, healthy = make_conv_case(steps=6), make_conv_case(steps=6)
    bias_of(case.params, case.layers[0])[1, 2] = float("inf")
    before = case.fresh()
    sums = case.train()
    healthy.train()
    assert case.diverged.tolist() == [-1, 0, -1]
    assert sums.steps.tolist() == [6, 0, 6]
    assert sums.loss[1] == sums.update_l2[1] == 0
    for name in ("params", "m", "v", "steps"):
        assert_same_bits(name, getattr(case, name)[1], getattr(before, name)[1])
    assert_same_member(case, 0, healthy, 0)
    assert_same_member(case, 2, healthy, 2)


def infinite_gradient(bad: int, steps: int, members: int = 3, batch: int = 2, **fields: object) -> ConvCase:
    """Member 1, or the only one, meets at one step an input of infinity behind saturated units: its loss is finite."""
    case = make_conv_case(
        (1, 4, 4), ((3, 3, 1, 0),), (3,), "tanh", members=members, steps=steps, batch=batch, floats=True, **fields
    )
    member = min(1, members - 1)
    case.order.remainder_(40)
    case.order[member, bad, 0] = 45
    case.task.rows[:] = case.task.rows[0].clone()
    case.task.images[case.task.rows[:, :40]] = 1.0
    case.task.images[case.task.rows[member, 45], 5] = float("inf")
    return case


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("bad", [0, 1, 7])
def test_a_bad_update_of_finite_loss_is_undone_to_the_bit(bad: int, optimizer: str) -> None:
    case = infinite_gradient(bad, steps=10, optimizer=optimizer)
    whole, before, definition = case.fresh(), case.fresh(), case.fresh()
    sums = whole.train()
    assert whole.diverged.tolist() == [-1, bad, -1]
    assert whole.steps.tolist() == [10, bad, 10]
    before_sums = before.train(order=before.order[:, :bad].contiguous()) if bad else None
    for name in ("params", "m", "v"):
        assert_same_bits(name, getattr(whole, name)[1], getattr(before, name)[1])
    assert sums.loss[1] == (before_sums.loss[1] if before_sums else 0)
    definition.train_reference()
    assert definition.diverged.tolist() == whole.diverged.tolist()


def test_a_bad_update_after_many_steps_is_undone_from_the_last_copy() -> None:
    bad = step.SNAPSHOT_INTERVAL + 21
    case = infinite_gradient(bad, steps=bad + 9, members=1)
    before = case.fresh()
    before.train(order=before.order[:, :bad].contiguous())
    case.train()
    assert case.diverged.tolist() == [bad]
    for name in ("params", "m", "v", "steps"):
        assert_same_bits(name, getattr(case, name)[0], getattr(before, name)[0])


def test_a_frozen_member_stays_frozen() -> None:
    case = make_conv_case()
    case.diverged[2] = 7
    before = case.fresh()
    sums = case.train()
    assert_same_member(case, 2, before, 2)
    assert sums.steps.tolist() == [20, 20, 0]


def test_taps_connect_the_positions_that_a_convolution_connects() -> None:
    shapes = product((1, 5, 8), (1, 3, 5), (1, 2, 3), (0, 1, 2, 3))
    shapes = [shape for shape in shapes if shape[0] + 2 * shape[3] >= shape[1]]  # others have no output
    assert len(shapes) == 99
    assert not [shape for shape in shapes if not are_connected(*shape)], "size, kernel, stride, padding"


def are_connected(size: int, kernel: int, stride: int, padding: int) -> bool:
    """Whether the taps of both passes are those of the definition."""
    out_size = (size + 2 * padding - kernel) // stride + 1
    wanted = {(o, t, o * stride - padding + t) for o in range(out_size) for t in range(kernel)}
    wanted = {(o, t, i) for o, t, i in wanted if 0 <= i < size}
    forward = forward_taps(size, out_size, kernel, stride, padding)
    backward = backward_taps(size, out_size, kernel, stride, padding)
    assert forward.dtype == backward.dtype == np.int64
    return (
        {(o, t + k, i + k) for o, (n, t, i) in enumerate(forward) for k in range(n)} == wanted
        and {(o - k, t + k * stride, i) for i, (n, t, o) in enumerate(backward) for k in range(n)} == wanted
    )  # fmt: skip


def refused(case: ConvCase, **changes: object) -> None:
    case.fresh(**changes).train()


def test_layers_that_do_not_fit_are_refused() -> None:
    case = make_conv_case()
    first, second, *tail = case.layers
    with pytest.raises(ValueError, match=r"layers must be convolutions, then dense layers: got \['DenseLayer'"):
        refused(case, layers=(*tail, first))
    with pytest.raises(ValueError, match=r"layer 1 must have inputs \(5, 4, 5\): got \(3, 4, 5\)"):
        refused(case, layers=(first, replace(second, channels=3), *tail))
    with pytest.raises(ValueError, match=r"layer 0 must have 189 inputs: got \(3, 7, 8\)"):
        refused(case, layers=(replace(first, width=8), second, *tail)[:1] + tuple(tail))
    with pytest.raises(ValueError, match=r"layer 1 must have an output: got kernel 9, stride 1, padding 0"):
        refused(case, layers=(first, replace(second, kernel=9), *tail))
    with pytest.raises(ValueError, match=r"layer 1 must leave a pixel: got pool 5\. Pass a smaller one, 1 for none"):
        refused(case, layers=(first, replace(second, pool=5), *tail))
    with pytest.raises(ValueError, match=r"layer 1 must have inputs \(10, 4, 5\): got \(5, 4, 5\)"):
        refused(case, layers=(replace(first, activation="crelu"), second, *tail))
    with pytest.raises(ValueError, match=r"keys must be given where a layer has dropout: got None"):
        refused(case, layers=(replace(first, dropout=0.5), second, *tail))
    with pytest.raises(ValueError, match=r"dropout must be at least 0 and less than 1: got 1\.0"):
        refused(case, layers=(first, replace(second, dropout=1.0), *tail))
    with pytest.raises(ValueError, match=r"layer 0 must lie in a row of \d+ floats: got norm at \(3, -1\)"):
        refused(case, layers=(replace(first, norm_scale=3), second, *tail))
    with pytest.raises(ValueError, match=r"activation is unknown: got 'swish'\. Choose one of identity, relu"):
        refused(case, layers=(first, replace(second, activation="swish"), *tail))
    with pytest.raises(ValueError, match=r"layer 0 must lie in a row of \d+ floats: got weight at -16"):
        refused(case, layers=(replace(first, weight=-16), second, *tail))
    with pytest.raises(ValueError, match="optimizer is unknown: got 'lion'"):
        refused(case, optimizer="lion")
    with pytest.raises(TypeError, match="params must be a contiguous"):
        refused(case, params=case.params.double())
