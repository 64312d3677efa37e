"""The definition of the training step against autograd and ``torch.optim``, one ordinary network per member."""

import pytest
import torch
from assertions import assert_close
from fastplast_kernels.train_step import reference
from mlp_case import Case, make_case
from torch import Tensor, nn
from torch.nn import functional

MODULES = {"relu": nn.ReLU, "leaky_relu": lambda: nn.LeakyReLU(0.01), "tanh": nn.Tanh, "identity": nn.Identity}


def ordinary(case: Case, member: int, activation: str) -> nn.Sequential:
    """A member as anyone would write it, in float64."""
    stages: list[nn.Module] = []
    for layer in case.layers:
        linear = nn.Linear(layer.inputs, layer.outputs).double()
        linear.weight.data.copy_(reference.weight_of(case.params, layer)[member])
        linear.bias.data.copy_(reference.bias_of(case.params, layer)[member])
        stages += [linear, MODULES[activation]()]
    return nn.Sequential(*stages[:-1])


def row_of(module: nn.Sequential, case: Case, gradient: bool = False) -> Tensor:
    """The parameters of an ordinary network, or their gradients, as a row of the arena."""
    row = torch.zeros(1, case.params.shape[1], dtype=torch.float64)
    linears = [stage for stage in module if isinstance(stage, nn.Linear)]
    for layer, linear in zip(case.layers, linears):
        weight, bias = (x.grad if gradient else x.data for x in (linear.weight, linear.bias))
        reference.weight_of(row, layer).copy_(weight)
        reference.bias_of(row, layer).copy_(bias)
    return row[0]


def batch(case: Case, step: int) -> tuple[Tensor, Tensor]:
    positions = case.order[:, step]
    return case.task.inputs(positions).double(), case.task.labels.gather(1, positions)


@pytest.mark.parametrize("activation", MODULES)
def test_closed_form_gradients_are_those_of_autograd(activation: str) -> None:
    case = make_case(activation=activation, permuted=True)
    x, labels = batch(case, 0)
    grads, loss, error = reference.gradients(case.params.double(), case.layers, x, labels)
    for i in range(len(case.params)):
        module = ordinary(case, i, activation)
        logits = module(x[i])
        expected = functional.cross_entropy(logits, labels[i])
        expected.backward()
        assert_close("loss", loss[i], expected, dtype=torch.float64, length=40)
        assert_close("gradient", grads[i], row_of(module, case, gradient=True), dtype=torch.float64, length=40)
        assert float(error[i]) == float((logits.argmax(1) != labels[i]).double().mean())


def written_penalty(module: nn.Module, case: Case, member: int, name: str) -> Tensor:
    """The penalty of a regulariser in the words of the papers."""
    total, linears = torch.zeros((), dtype=torch.float64), [s for s in module.modules() if isinstance(s, nn.Linear)]
    if name == "none":
        return total
    for layer, linear in zip(case.layers, linears):
        w = linear.weight.flatten()
        target = reference.weight_of(case.anchor, layer)[member].flatten().double()
        total = total + layer.pull * ((w.sort().values if name == "wasserstein" else w) - target).square().sum()
    return case.hyper.strength[member] * total


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("pull", ["none", "l2", "regenerative", "wasserstein"])
def test_steps_are_those_of_torch_optim_on_the_written_out_loss(optimizer: str, pull: str) -> None:
    case = make_case(activation="tanh", optimizer=optimizer, decoupled=optimizer == "adamw", pull=pull, steps=10)
    case = case.fresh(hyper=case.hyper._replace(weight_decay=torch.tensor([0.0, 0.01, 0.1], dtype=torch.float64)))
    start, h = case.params.double(), case.hyper
    modules = [ordinary(case, i, "tanh") for i in range(3)]
    for i, module in enumerate(modules):
        rate, decay = float(h.learning_rate[i]), float(h.weight_decay[i])
        betas, eps = (float(h.beta1[i]), float(h.beta2[i])), float(h.epsilon[i])
        own = {
            "adam": lambda p: torch.optim.Adam(p, rate, betas, eps, decay),  # noqa: B023
            "adamw": lambda p: torch.optim.AdamW(p, rate, betas, eps, decay),  # noqa: B023
            "sgd": lambda p: torch.optim.SGD(p, rate, float(h.momentum[i]), weight_decay=decay),  # noqa: B023
        }[optimizer](module.parameters())
        for step in range(case.order.shape[1]):
            x, labels = batch(case, step)
            own.zero_grad()
            (functional.cross_entropy(module(x[i]), labels[i]) + written_penalty(module, case, i, pull)).backward()
            own.step()
    case.train_reference()
    assert case.steps.tolist() == [10, 10, 10]
    for i, module in enumerate(modules):
        moved = row_of(module, case) - start[i]
        assert_close(f"member {i}", case.params[i].double() - start[i], moved, length=10, factor=400)


def test_a_batch_of_infinite_loss_freezes_the_member_before_it() -> None:
    case = make_case(steps=4)
    reference.bias_of(case.params, case.layers[-1])[1, 2] = float("inf")
    before = case.fresh()
    case.train_reference()
    assert case.diverged.tolist() == [-1, 0, -1]
    assert case.steps.tolist() == [4, 0, 4]
    for name in ("params", "m", "v"):
        assert torch.equal(getattr(case, name)[1], getattr(before, name)[1])
        assert not torch.equal(getattr(case, name)[0], getattr(before, name)[0])
