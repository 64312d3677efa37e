"""What a member's bits do not depend on, and members that diverge."""

import pytest
import torch
from assertions import assert_same_bits
from fastplast_kernels.train_step import reference
from fastplast_kernels.train_step.cpu import step
from mlp_case import Case, make_case

STATE = ("params", "m", "v", "steps", "diverged")


def assert_same_member(a: Case, i: int, b: Case, j: int) -> None:
    for name in STATE:
        assert_same_bits(name, getattr(a, name)[i], getattr(b, name)[j])


def mixed(**fields: object) -> Case:
    """Members that differ in all they can."""
    return make_case(members=5, pull="mixed", ragged=True, permuted=True, activation="tanh", **fields)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_member_is_independent_of_its_batch_mates(optimizer: str) -> None:
    together = mixed(optimizer=optimizer)
    turned, alone = together.pick([4, 2, 0, 3, 1]), [together.pick([i]) for i in range(5)]
    sums = together.train()
    for i, sums_turned in zip((4, 2, 0, 3, 1), zip(*turned.train())):
        assert list(sums_turned) == [x[i] for x in sums]
    for i, place in enumerate((2, 4, 1, 3, 0)):
        alone[i].train()
        assert_same_member(alone[i], 0, together, i)
        assert_same_member(turned, place, together, i)


def test_member_is_independent_of_the_number_of_threads() -> None:
    one, two, many = mixed(), mixed(), mixed()
    sums = [one.train(threads=1), two.train(threads=2), many.train(threads=9)]
    for other, found in ((two, sums[1]), (many, sums[2])):
        for i in range(5):
            assert_same_member(one, i, other, i)
        assert all(torch.equal(a, b) for a, b in zip(found, sums[0]))


def test_steps_may_be_split_into_calls() -> None:
    whole, parts = mixed(), mixed()
    total = whole.train()
    loss = torch.zeros(5, dtype=torch.float64)
    for start, end in ((0, 1), (1, 8), (8, 20)):
        loss += parts.train(order=parts.order[:, start:end]).loss
    for i in range(5):
        assert_same_member(whole, i, parts, i)
    torch.testing.assert_close(loss, total.loss, rtol=1e-14, atol=0)


def infinite_input(bad: int, **fields: object) -> Case:
    """Step `bad` of member 1 has an infinite pixel before saturated units: its loss is finite, its gradient is not."""
    case = make_case((6, 4, 3), "tanh", batch=2, floats=True, **fields)
    case.task.rows.remainder_(len(case.task.images) - 1)
    case.task.rows[1, 45] = len(case.task.images) - 1
    case.task.images[-1, 2] = float("inf")
    case.order.remainder_(40)
    case.order[1, bad, 0] = 45
    return case


@pytest.mark.parametrize("pull", ["l2", "regenerative", "wasserstein"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_strength_zero_is_no_regulariser_to_the_bit(pull: str, decay: float) -> None:
    plain, pulled = make_case(), make_case(pull=pull)
    for case in (plain, pulled):
        case.hyper.weight_decay[:] = decay
    pulled.hyper.strength[:] = 0
    plain.train()
    pulled.train()
    for i in range(3):
        assert_same_member(plain, i, pulled, i)


def test_padding_stays_zero() -> None:
    case = mixed()
    case.train()
    for name in ("params", "m", "v"):
        assert (getattr(case, name)[:, ~case.is_parameter()] == 0).all()


def test_a_batch_of_infinite_loss_changes_nothing_of_the_member() -> None:
    case, healthy = make_case(steps=6), make_case(steps=6)
    reference.bias_of(case.params, case.layers[-1])[1, 2] = float("inf")
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


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("bad", [0, 1, 7])
def test_a_bad_update_of_finite_loss_is_undone_to_the_bit(bad: int, optimizer: str) -> None:
    case = infinite_input(bad, members=3, steps=10, optimizer=optimizer)
    whole = case.fresh()
    sums = whole.train()
    assert whole.diverged.tolist() == [-1, bad, -1]
    assert whole.steps.tolist() == [10, bad, 10]
    before = case.fresh()
    before_sums = before.train(order=before.order[:, :bad]) if bad else None
    for name in ("params", "m", "v"):
        assert_same_bits(name, getattr(whole, name)[1], getattr(before, name)[1])
    assert sums.loss[1] == (before_sums.loss[1] if before_sums else 0)
    definition = case.fresh()
    definition.train_reference()
    assert definition.diverged.tolist() == whole.diverged.tolist()


def test_a_bad_update_after_many_steps_is_undone_from_the_last_copy() -> None:
    steps = step.SNAPSHOT_INTERVAL + 30
    case = infinite_input(steps - 9, members=2, steps=steps)
    before = case.fresh()
    before.train(order=before.order[:, : steps - 9])
    case.train()
    assert case.diverged.tolist() == [-1, steps - 9]
    for name in ("params", "m", "v", "steps"):
        assert_same_bits(name, getattr(case, name)[1], getattr(before, name)[1])


def test_a_huge_learning_rate_ends_in_a_frozen_finite_member() -> None:
    case = make_case(steps=10)
    case.hyper.learning_rate[1] = 1e30
    definition = case.fresh()
    case.train()
    definition.train_reference()
    assert case.diverged.tolist() == definition.diverged.tolist()
    assert case.params.isfinite().all()
    assert case.diverged[1] == case.steps[1] < 10


def test_a_frozen_member_stays_frozen() -> None:
    case = make_case()
    case.diverged[2] = 7
    before = case.fresh()
    sums = case.train()
    assert_same_member(case, 2, before, 2)
    assert sums.steps.tolist() == [20, 20, 0]
