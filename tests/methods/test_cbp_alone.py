"""Continual backprop in the batch against one network trained as anyone would write it, with resets of its own."""

from collections import defaultdict

import pytest
import torch
from assertions import assert_close
from method_cases import member
from torch.nn import functional

from fastplast.engines import Group
from fastplast.methods import hidden_layers


class Alone:
    """A perceptron with ReLU, Adam that counts updates of every weight, and continual backprop, in float64."""

    def __init__(self, group: Group, init: torch.Tensor) -> None:
        self.group, self.own, self.steps = group, group.members[0], 0
        self.options = {name.removeprefix("cbp_"): value for name, value in dict(self.own.options).items()}
        self.parameters = {name: p[0].double().clone() for name, p in group.layout.views(init).items()}
        self.m, self.v, self.age = ({n: torch.zeros_like(p) for n, p in self.parameters.items()} for _ in range(3))
        self.kept = defaultdict(float)

    def step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        leaves = {name: p.clone().requires_grad_() for name, p in self.parameters.items()}
        h, features = x.double(), {}
        for name in ("fc1", "fc2", "fc3", "fc4"):
            h = functional.linear(h, leaves[f"{name}.weight"], leaves[f"{name}.bias"])
            if name != "fc4":
                h = features[name] = h.relu()
        grads = torch.autograd.grad(functional.cross_entropy(h, y), list(leaves.values()))
        for (name, p), g in zip(self.parameters.items(), grads):
            self.age[name] += 1
            self.m[name] = 0.9 * self.m[name] + 0.1 * g
            self.v[name] = 0.999 * self.v[name] + 0.001 * g * g
            m, v = self.m[name] / (1 - 0.9 ** self.age[name]), self.v[name] / (1 - 0.999 ** self.age[name])
            p -= self.own.learning_rate * m / (v.sqrt() + 1e-8)
        self.steps += 1
        chosen = {name: self.choose(name, h.detach(), f"fc{i + 2}") for i, (name, h) in enumerate(features.items())}
        for hidden in hidden_layers(self.group.network):
            for unit in chosen[hidden.layer.name]:
                self.reset(hidden, unit)

    def choose(self, name: str, h: torch.Tensor, after: str) -> list[int]:
        d, kept, units = self.options["decay"], self.kept, h.shape[1]
        age = kept[name, "age"] = kept[name, "age"] + torch.ones(units)
        mean = kept[name, "mean"] = d * kept[name, "mean"] + (1 - d) * h.mean(0)
        centred = (h - mean / (1 - d**age)).abs().mean(0)
        out, into = self.parameters[f"{after}.weight"].abs().mean(0), self.parameters[f"{name}.weight"].abs().mean(1)
        utility = kept[name, "utility"] = d * kept[name, "utility"] + (1 - d) * out * centred / into
        eligible = [unit for unit in range(units) if age[unit] > self.options["maturity"]]
        kept[name, "owed"] += self.options["rate"] * len(eligible)
        count = int(kept[name, "owed"] + 1e-9)
        kept[name, "owed"] -= count
        chosen = sorted(eligible, key=lambda unit: float(utility[unit] / (1 - d ** age[unit])))[:count]
        for part in ("age", "mean", "utility"):
            kept[name, part][chosen] = 0.0
        return chosen

    def reset(self, hidden, unit: int) -> None:
        drawn = self.group.network.unit_parameters(hidden.layer, self.own.seed, self.steps, hidden.first + unit)
        name, after = hidden.layer.name, f"{hidden.after.name}.weight"
        self.parameters[f"{name}.weight"][unit], self.parameters[f"{name}.bias"][unit] = drawn[0].double(), drawn[1]
        self.parameters[after][:, unit] = 0.0
        for part in (self.m, self.v, self.age):
            part[f"{name}.weight"][unit], part[f"{name}.bias"][unit], part[after][:, unit] = 0.0, 0.0, 0.0


def check_against_one_network(trial) -> None:
    """Ten epochs of the first member of a trial, by whatever engine, against it by itself."""
    alone, task = Alone(trial.group, trial.state.init), trial.task()
    for epoch in range(10):
        trial.train(1, first=epoch)
        for positions in trial.order(epoch)[0]:
            positions = positions[positions >= 0][None]
            alone.step(task.inputs(positions)[0], task.labels[0, positions[0]])
    assert int(trial.state.kept["resets"].sum()) > 30
    moved = float((trial.state.params - trial.state.init).abs().max())
    for name, p in trial.group.layout.views(trial.state.params).items():
        assert_close(name, p[0], alone.parameters[name], length=30 * 36, factor=16, scale=moved)
    ages = {name: int(view.unique().numel()) for name, view in alone.age.items()}
    assert ages["fc2.weight"] > 5  # weights of many births


@pytest.mark.parametrize("init", ["glorot_uniform", "torch_default"])
def test_ten_epochs_equal_those_of_one_network_by_itself(init, make_trial):
    check_against_one_network(make_trial((member("cbp", 3, rate=1e-3, correct_bias="no"),), init=init))
