"""Orders drawn ahead of time are those that the seed contract says."""

import threading

import pytest
import torch

from fastplast import Experiment
from fastplast.seeding import orders
from fastplast.training import orders as drawing
from fastplast.training.orders import EpochOrders

SEEDS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]
SMALL = Experiment(tasks=2, epochs=3, examples=40, batch_size=16)


def test_orders_drawn_ahead_are_those_of_the_contract_to_the_bit():
    for ahead in (False, True):
        with EpochOrders(SMALL, SEEDS, ahead) as drawn:
            for task, epoch in ((0, 1), (0, 2), (1, 0), (1, 0), (1, 1), (0, 0)):
                assert torch.equal(drawn.take(task, epoch), torch.from_numpy(orders(SEEDS, 40, 16, task, epoch)))


def test_the_next_epoch_is_drawn_while_nobody_asks(monkeypatch):
    seen, both = [], threading.Event()

    def draw(seeds, examples, batch_size, task, epoch):
        seen.append((task, epoch))
        if (1, 0) in seen:
            both.set()
        return orders(seeds, examples, batch_size, task, epoch)

    monkeypatch.setattr(drawing.seeding, "orders", draw)
    with EpochOrders(SMALL, SEEDS[:1], ahead=True) as drawn:
        drawn.take(0, 2)
        assert both.wait(60)
    assert seen == [(0, 2), (1, 0)]


@pytest.mark.parametrize("ahead", [False, True])
def test_an_epoch_is_drawn_once_and_none_past_the_last(monkeypatch, ahead):
    seen = []

    def draw(seeds, examples, batch_size, task, epoch):
        seen.append((task, epoch))
        return orders(seeds, examples, batch_size, task, epoch)

    monkeypatch.setattr(drawing.seeding, "orders", draw)
    with EpochOrders(SMALL, SEEDS[:1], ahead) as drawn:
        for epoch in (1, 1, 2, 2):
            assert torch.equal(drawn.take(1, epoch), torch.from_numpy(orders(SEEDS[:1], 40, 16, 1, epoch)))
    assert seen == [(1, 1), (1, 2)]
