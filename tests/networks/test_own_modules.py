"""Modules of users that no group could be made of are refused, with what to do."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fastplast.networks import ModuleNetwork

IMAGE = (3, 9, 8)


class Listed(nn.Module):
    """Its hidden layer is in a plain list: no parameter of the module."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = [nn.Linear(216, 6)], nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.hidden[0](x.flatten(1))))


class Shifted(nn.Module):
    """A random tensor that is no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.shift, self.head = torch.randn(216), nn.Linear(216, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1) + self.shift)


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(216, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.functional.dropout(x.flatten(1), 0.3))


class Noisy(Dropping):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1) + float(np.random.random()))


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(216, 4, dtype=torch.complex64)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1).cfloat()).abs()


SHARED = nn.Linear(216, 4)


def same_linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), SHARED)


@pytest.mark.parametrize(
    ("factory", "text"),
    [
        (Listed, "no part of parameters.*Use nn.ModuleList"),
        (Shifted, "seed 1 that computes something else"),
        (same_linear, "must make new parameters at every call"),
        (Dropping, "must compute the same twice in evaluation: got a random module:Dropping"),
        (Noisy, "must compute the same twice in evaluation: got a random module:Noisy"),
        (Complex, "must have real parameters: got head.weight of torch.complex64"),
    ],
    ids=["list", "tensor", "shared", "dropout", "numpy", "complex"],
)
def test_what_differs_between_seeds_or_passes_and_is_no_parameter_is_refused(factory, text: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=text):
        ModuleNetwork(factory, IMAGE, 4).initial_parameters([0, 1])


def test_a_module_with_other_shapes_for_another_seed_is_refused() -> None:
    def factory() -> nn.Module:
        width = 5 + int(torch.randint(1000, ()))
        return nn.Sequential(nn.Flatten(), nn.Linear(216, width), nn.Linear(width, 4))

    with pytest.raises(ValueError, match="must have the same parameters for every seed: got others for seed 1"):
        ModuleNetwork(factory, IMAGE, 4).initial_parameters([0, 1])


class Auxiliary(nn.Module):
    """A layer that is registered last and called by name, or not at all."""

    def __init__(self, called: bool) -> None:
        super().__init__()
        self.called, self.head, self.last = called, nn.Linear(216, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.head(x.flatten(1))
        return self.last(input=h) if self.called else h


@pytest.mark.parametrize("called", [True, False])
def test_the_last_linear_layer_may_be_called_by_name_or_not_at_all(called: bool) -> None:
    network = ModuleNetwork(lambda: Auxiliary(called), IMAGE, 4)
    row, x = network.initial_parameters([0])[0], torch.randn(5, 216)
    logits, features = network.forward(row, x)
    assert torch.equal(logits, network.logits(row, x))
    parameters = network.layout.views(row)
    head = nn.functional.linear(x, parameters["head.weight"], parameters["head.bias"])
    assert [torch.equal(f, head) for f in features] == ([True] if called else [])
