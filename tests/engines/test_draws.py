"""Dropout and the like of a user's module: each member draws from its own streams, whatever its batch mates."""

import math

import pytest
import torch
from assertions import assert_close, assert_same_bits
from torch import nn

from fastplast import seeding
from fastplast.config import Member
from fastplast.engines import VmapEngine

ROUNDING = 16 * math.sqrt(20 * 36)  # in eps: twenty updates, each through sums of some 36 terms
MEMBERS = tuple(Member(seed, 0.05 / (1 + seed % 3), "none", 0.0) for seed in (4, 7, 11))


def dropping() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.ReLU(), nn.Dropout(0.5), nn.Linear(12, 5))


def plain() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.Tanh(), nn.Linear(12, 5))


@pytest.fixture
def make(make_trial):
    return lambda members=MEMBERS, module=dropping: make_trial(members, module=module, optimizer="sgd")


def test_a_member_trains_as_a_module_by_itself_whose_generator_is_set_to_its_stream(make):
    trial = make()
    singles, task = [trial.ordinary(m, dropping()) for m in range(3)], trial.task()
    trial.train(5)
    params = trial.true_parameters(trial.state.params)
    for m, single in enumerate(singles):
        single.module.train()
        for number, positions in enumerate(torch.cat([trial.order(epoch)[m] for epoch in range(5)]), start=1):
            torch.manual_seed(int(seeding.words(MEMBERS[m].seed, "module", 1, 0, number)[0] >> 1))
            single.step(task, positions)
        assert_close(f"parameters of {m}", params[m], single.vector(), factor=ROUNDING)


def test_a_member_is_the_same_alone_among_others_in_another_order_and_resumed(make):
    together, turned = make(), make(MEMBERS[::-1])
    together.train(3)
    turned.train(3)
    for m, member in enumerate(MEMBERS):
        alone, resumed = make((member,)), make((member, MEMBERS[m - 1]))
        alone.train(3)
        resumed.train(1)
        torch.rand(100)  # of somebody else
        resumed.engine = VmapEngine(resumed.group, resumed.state, torch.device("cpu"))
        resumed.train(2, first=1)
        for name, trial, row in (("alone", alone, 0), ("in another order", turned, 2 - m), ("resumed", resumed, 0)):
            assert_same_bits(f"{m} {name}", trial.state.params[row], together.state.params[m])


def test_one_call_draws_the_same_as_many(make):
    whole, parts = make(), make()
    order = torch.cat([whole.order(epoch) for epoch in range(2)], 1)
    whole.engine.run(whole.state, whole.task(), order)
    for step in range(order.shape[1]):
        parts.engine.run(parts.state, parts.task(), order[:, step : step + 1])
    assert_same_bits("params", parts.state.params, whole.state.params)


def test_a_generator_of_the_users_is_left_as_it_was(make):
    for module in (dropping, plain):
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        make(module=module).train(1)
        assert torch.equal(torch.rand(3), expected)


def test_only_a_module_that_draws_is_computed_one_member_after_the_other(make):
    for module, draws in ((dropping, True), (plain, False), (lambda: nn.Sequential(plain(), nn.Dropout(0.0)), False)):
        trial = make(module=module)
        trial.train(1)
        assert trial.engine._one_by_one == draws


def test_a_module_that_begins_to_draw_later_is_noticed(make):
    class Later(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.rate = plain(), 0.0

        def forward(self, x):
            return nn.functional.dropout(self.body(x), self.rate, self.training)

    def changed(members):
        trial = make(members, Later)
        trial.train(1)
        trial.group.network.template.rate = 0.5
        trial.train(1, first=1)
        return trial.state.params

    assert_close("alone", changed(MEMBERS[1:2])[0], changed(MEMBERS)[1], factor=ROUNDING)


@pytest.mark.parametrize(("module", "captured"), [(dropping, False), (plain, True)])
def test_updates_are_not_replayed_as_graphs_where_the_module_draws(module, captured, make):
    trial, replayed = make(module=module), []
    trial.engine._captures = True
    trial.engine._replay = lambda *_: replayed.append(1)
    trial.train(1)
    assert bool(replayed) == captured
