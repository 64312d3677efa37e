"""Shared fixtures: small data, small groups ready to train, and the same training written as anyone would write it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fastplast.config import (
    BENCHMARKS,
    METHOD_OPTIONS,
    METHOD_SUMMARIES,
    NETWORK_SUMMARIES,
    OWN,
    TAKES_STRENGTH,
    Experiment,
    Member,
)
from fastplast.config.errors import naming_flags
from fastplast.data import Dataset
from fastplast.data.dataset import LOADERS
from fastplast.engines import Accumulators, Group, GroupState, VmapEngine, build_group, new_state
from fastplast.engines.optimizers import OPTIMIZERS
from fastplast.machine.arithmetic import use_full_float32
from fastplast.measuring import METRICS
from fastplast.methods import METHODS
from fastplast.networks import NETWORKS, ModuleFactory, ModuleNetwork, build_network
from fastplast.problems import CHANGES, Problem, Task, build_problem, make_task
from fastplast.seeding import orders

SHAPES = {"mnist": (1, 6, 6), "fashion_mnist": (1, 6, 6), "cifar10": (3, 7, 6)}
SIZES = {"mlp": {"widths": (14, 12, 9)}, "mlp13": {"widths": (10,) * 12}, "cnn": {"widths": (9, 8), "channels": (4, 5)}}
SIZES["convnet"] = {"widths": (9, 8), "channels": (4, 5, 3)}
SMALLEST = (3, 24, 24)  # image from which the convolutions of convnet leave a pixel
MODULES = {"relu": nn.ReLU, "leaky_relu": lambda: nn.LeakyReLU(0.01), "tanh": nn.Tanh, "identity": nn.Identity}


def pytest_configure(config: pytest.Config) -> None:
    """A shell that starts the tests in the background has Ctrl-C ignored, by them and all that they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def errors_name_flags():
    """Texts of errors are written out in tests as the command line says them; Python names fields."""
    with naming_flags():
        yield


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Each process of pytest-xdist begins with its share of the slow tests, so that none is left alone with one.

    They are dealt out first in equal parts, one after the other, and later taken from who still has some.
    """
    processes = getattr(config, "workerinput", {}).get("workercount", 1)
    slow = [item for item in items if item.get_closest_marker("slow")]
    others = [item for item in items if not item.get_closest_marker("slow")]
    part = -(-len(items) // processes)
    items.clear()
    for number in range(processes):
        own = slow[number::processes]
        count = part - len(own) if number < processes - 1 else len(others)
        items += own + others[:count]
        del others[:count]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small tensors on shared cores are fastest with one thread; references on a GPU are computed in full float32."""
    torch.set_num_threads(1)
    use_full_float32()


@pytest.fixture(autouse=True)
def registries() -> Iterator[Callable[[], None]]:
    """Whatever a test registers is forgotten after it, and whenever what this gives is called."""
    tables: list[dict] = [METHODS, METHOD_OPTIONS, TAKES_STRENGTH, METRICS, CHANGES, BENCHMARKS, OPTIMIZERS, LOADERS]
    tables += [NETWORKS, METHOD_SUMMARIES, NETWORK_SUMMARIES, *OWN.values()]
    before = [dict(table) for table in tables]

    def forget() -> None:
        for table, kept in zip(tables, before):
            table.clear()
            table.update(kept)

    yield forget
    forget()


def small_dataset(images: int = 60, shape: tuple[int, int, int] = (1, 6, 6), num_classes: int = 5) -> Dataset:
    """Random bytes and labels; every class is there."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, prod(shape)), dtype=np.uint8)
    labels = rng.permutation(np.arange(images) % num_classes)
    return Dataset("synthetic", pixels, labels, shape, num_classes, "made by hand", Path("synthetic"), "none")


def ordinary_module(
    shape: tuple[int, int, int],
    num_classes: int,
    activation: str,
    widths: tuple[int, ...],
    channels: tuple[int, ...] | None = None,
    pooled: bool = False,
) -> nn.Sequential:
    """A network on `[B, I]` as anyone would write it, initialised by PyTorch."""
    stages: list[nn.Module] = [nn.Unflatten(1, shape)]
    for i, (before, after) in enumerate(pairwise((shape[0], *(channels or ())))):
        if pooled:
            stages += [nn.Conv2d(before, after, 3 if i else 5), MODULES[activation](), nn.MaxPool2d(2)]
        else:
            stages += [nn.Conv2d(before, after, 3, stride=2, padding=1), MODULES[activation]()]
    stages.append(nn.Flatten())
    inputs = nn.Sequential(*stages)(torch.zeros(1, prod(shape))).shape[1]
    for before, after in pairwise((inputs, *widths)):
        stages += [nn.Linear(before, after), MODULES[activation]()]
    return nn.Sequential(*stages, nn.Linear(widths[-1], num_classes))


@dataclass
class Trial:
    """A group, its state and what it trains on."""

    experiment: Experiment
    dataset: Dataset
    problem: Problem
    group: Group
    state: GroupState
    engine: VmapEngine

    def task(self, index: int = 0) -> Task:
        return make_task(self.problem, index)

    def order(self, epoch: int = 0, task: int = 0) -> Tensor:
        e = self.experiment
        return torch.from_numpy(orders(self.group.seeds, e.examples, e.batch_size, task, epoch))

    def train(self, epochs: int = 1, task: int = 0, first: int = 0) -> Accumulators:
        """Trains epochs first, first + 1, ... of a task."""
        sums = Accumulators.zeros(len(self.group.members))
        for epoch in range(first, first + epochs):
            sums.add(self.engine.run(self.state, self.task(task), self.order(epoch, task)))
        return sums

    def true_parameters(self, arena: Tensor) -> Tensor:
        """`[M, P]` without padding."""
        return torch.cat([arena[:, slot.slice] for slot in self.group.layout.slots], 1)

    def ordinary(self, member: int, module: nn.Module | None = None) -> Ordinary:
        """A member by itself, at its initial parameters."""
        if module is None:
            e, data = self.experiment, self.dataset
            pooled = e.network == "convnet"
            module = ordinary_module(
                data.shape, self.problem.num_classes, e.activation, e.widths or (), e.channels, pooled
            )
        for parameter, slot in zip(module.parameters(), self.group.layout.slots, strict=True):
            parameter.data = self.state.init[member, slot.slice].reshape(parameter.shape).clone()
        return Ordinary(self, member, module)


class Ordinary:
    """One member trained by itself: an ``nn.Module``, ``torch.optim``, and the penalty written out."""

    def __init__(self, trial: Trial, member: int, module: nn.Module) -> None:
        self.trial, self.member, self.module = trial, member, module
        e, own = trial.experiment, trial.group.members[member]
        self.own, self.start = own, [p.detach().clone() for p in module.parameters()]
        decay = 0.0 if e.optimizer == "sgd" and e.decoupled else e.weight_decay
        if e.optimizer == "sgd":
            self.optimizer = torch.optim.SGD(module.parameters(), own.learning_rate, e.momentum, weight_decay=decay)
        else:
            kind = torch.optim.AdamW if e.decoupled else torch.optim.Adam
            self.optimizer = kind(module.parameters(), own.learning_rate, weight_decay=decay)
        self.loss, self.error, self.update_l1, self.update_l2 = [], [], [], []

    def vector(self) -> Tensor:
        """All parameters, `[P]` without padding."""
        return nn.utils.parameters_to_vector(self.module.parameters()).detach()

    def penalty(self) -> Tensor:
        """The penalty of the member's method without its strength, in the words of the papers."""
        total, mean = torch.zeros(()), self.trial.experiment.reduction == "mean"
        for w, w0 in zip(self.module.parameters(), self.start):
            if w.ndim > 1 and self.own.method != "none":
                a, b = {
                    "l2": (w, torch.zeros_like(w)),
                    "regenerative": (w, w0),
                    "wasserstein": (w.flatten().sort().values, w0.flatten().sort().values),
                }[self.own.method]
                total = total + (((a - b) ** 2).mean() if mean else ((a - b) ** 2).sum())
        return total

    def step(self, task: Task, positions: Tensor) -> None:
        """One update on a batch, and its share of the accumulators by their definitions."""
        e, before, positions = self.trial.experiment, self.vector(), positions[positions >= 0]
        x = torch.from_numpy(self.trial.dataset.images)[task.rows[self.member, positions]].float() / 255
        x, y = x if task.pixels is None else x[:, task.pixels[self.member]], task.labels[self.member, positions]
        logits = self.module(x)
        loss = functional.cross_entropy(logits, y)
        self.optimizer.zero_grad()
        (loss + self.own.strength * self.penalty()).backward()
        if e.optimizer == "sgd" and e.decoupled:
            for parameter in self.module.parameters():
                parameter.data *= 1 - self.own.learning_rate * e.weight_decay
        self.optimizer.step()
        change = self.vector().double() - before.double()
        self.loss.append(float(loss.detach()))
        self.error.append(float((logits.argmax(1) != y).double().mean()))
        self.update_l1.append(float(change.abs().mean()))
        self.update_l2.append(float(change.square().sum().sqrt()))


def small_trial(
    members: tuple[Member, ...] | None = None,
    module: ModuleFactory | None = None,
    dataset: Dataset | None = None,
    **fields: object,
) -> Trial:
    """A small experiment; `members` replaces those of the experiment, `module` its network."""
    experiment = Experiment(**{"examples": 40, "batch_size": 16, "seeds": 3} | fields).resolved()  # type: ignore[arg-type]
    if experiment.widths is None:
        experiment = Experiment(**experiment.to_dict() | SIZES[experiment.network or "mlp"])
    shape = SMALLEST if experiment.network == "convnet" else SHAPES[experiment.dataset]
    dataset = dataset or small_dataset(shape=shape)
    members = members or experiment.members()
    problem = build_problem(experiment, dataset, tuple(m.seed for m in members))
    if module is None:
        network = build_network(experiment, problem.shape, problem.num_classes)
    else:
        network = ModuleNetwork(module, problem.shape, problem.num_classes)
    group = build_group(experiment, network, members)
    state = new_state(group)
    return Trial(experiment, dataset, problem, group, state, VmapEngine(group, state, torch.device("cpu")))


@pytest.fixture
def make_dataset() -> Callable[..., Dataset]:
    """``make_dataset(images, shape, num_classes)``: random bytes and labels."""
    return small_dataset


@pytest.fixture
def make_ordinary_module() -> Callable[..., nn.Sequential]:
    """``make_ordinary_module(shape, num_classes, activation, widths, channels)``."""
    return ordinary_module


@pytest.fixture
def make_trial() -> Callable[..., Trial]:
    """``make_trial(members, module, dataset, **fields)``: a small group ready to train."""
    return small_trial


_BROWSER_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]
_BROWSER_FLAGS += ["--disable-sync", "--no-first-run"]
_BROWSERS = ("chromium", "google-chrome", "chromium-browser", "google-chrome-stable")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The system's Chromium. $FASTPLAST_REQUIRE_BROWSER=1 turns its absence from a skip into a failure."""
    named = os.environ.get("FASTPLAST_CHROMIUM")
    program = named or next(filter(None, map(shutil.which, _BROWSERS)), None)
    required = os.environ.get("FASTPLAST_REQUIRE_BROWSER") == "1"
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        reason = "no Chromium on PATH ($FASTPLAST_CHROMIUM names one), or no package playwright"
        pytest.fail(reason) if required else pytest.skip(reason)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=_BROWSER_FLAGS)
        yield chromium
        chromium.close()
