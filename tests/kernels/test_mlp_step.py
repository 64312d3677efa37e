"""The fused training step on CPU cores against its definition."""

import pytest
import torch
from assertions import assert_close
from mlp_case import Case, make_case

SHAPES = [
    ((37, 21, 18, 5), 16),
    ((130, 34, 3, 2), 1),
    ((16, 4), 7),
    ((5, 1, 7, 6, 9), 3),
    ((9, 64, 33, 10), 21),
    ((8, *(10,) * 12, 3), 16),
]


def check(case: Case, rate: float, loss: float = 2e-6) -> None:
    """Trains a case both ways; parameters may differ by `rate` times the largest change, sums of losses by `loss`."""
    expected, start = case.fresh(), case.params.clone()
    sums = case.train(threads=2)
    wanted = expected.train_reference()
    moved = float((expected.params - start).abs().max())
    assert moved > 0
    assert torch.equal(case.steps, expected.steps)
    assert torch.equal(sums.steps, expected.steps)
    for name in ("m", "v"):
        size = float(getattr(expected, name).abs().max())
        difference = float((getattr(case, name) - getattr(expected, name)).abs().max())
        assert difference <= 1e-5 * size, f"{name}: {difference} of {size}"
    assert float((case.params - expected.params).abs().max()) <= rate * moved
    for value, want, tolerance in zip(sums[1:], wanted, (loss, 0, 2e-6, 2e-6)):
        torch.testing.assert_close(value, want, rtol=tolerance, atol=0)


def check_one_step(case: Case) -> None:
    """One step both ways, of members that have made some."""
    case = case.fresh(steps=torch.tensor([0, 4, 999]))
    case.m.copy_(torch.randn(case.m.shape) * case.is_parameter())
    case.v.copy_((0.1 + torch.rand(case.v.shape)) * case.is_parameter())
    expected, start = case.fresh(), case.params.clone()
    sums, wanted = case.train(), expected.train_reference()
    for name in ("params", "m", "v"):
        assert_close(name, getattr(case, name), getattr(expected, name))
    change = expected.params - start
    assert float((case.params - start - change).abs().max()) <= 1e-5 * max(float(change.abs().max()), 1e-2)
    torch.testing.assert_close(torch.stack(sums[1:]), wanted, rtol=2e-6, atol=0)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "identity"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize(("sizes", "batch"), SHAPES)
def test_one_step_equals_the_definition(sizes: tuple[int, ...], batch: int, activation: str, optimizer: str) -> None:
    check_one_step(make_case(sizes, activation, batch=batch, steps=1, optimizer=optimizer))


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "identity"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("pull", ["none", "mixed"])
def test_chained_steps_equal_the_definition(activation: str, optimizer: str, pull: str) -> None:
    case = make_case(activation=activation, members=4, optimizer=optimizer, pull=pull, ragged=True)
    check(case, rate=2e-3)


@pytest.mark.parametrize("pull", ["l2", "regenerative", "wasserstein"])
@pytest.mark.parametrize(("optimizer", "decoupled"), [("adam", False), ("adam", True), ("sgd", False), ("sgd", True)])
def test_pull_and_weight_decay_together_equal_the_definition(pull: str, optimizer: str, decoupled: bool) -> None:
    case = make_case(pull=pull, optimizer=optimizer, decoupled=decoupled)
    case.hyper.weight_decay[:] = torch.tensor([0.0, 0.01, 0.5])
    check(case, rate=2e-3)


@pytest.mark.parametrize("permuted", [False, True])
@pytest.mark.parametrize("floats", [False, True])
def test_inputs_are_those_of_the_task(permuted: bool, floats: bool) -> None:
    check(make_case((13, 6, 4), "tanh", permuted=permuted, floats=floats, steps=5), rate=1e-3)


def test_loss_curves_of_hundreds_of_steps_agree() -> None:
    case = make_case((20, 12, 9, 3), "tanh", steps=300, batch=8)
    expected = case.fresh()
    kernel, definition = [], []
    for start in range(0, 300, 20):
        order = case.order[:, start : start + 20]
        kernel.append(case.train(order=order).loss / 20)
        definition.append(expected.train_reference(order)[0] / 20)
    torch.testing.assert_close(torch.stack(kernel), torch.stack(definition), rtol=1e-4, atol=1e-6)
