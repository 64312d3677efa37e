"""The ``vmap`` engine against ordinary training: one ``nn.Module`` and one ``torch.optim`` optimiser per member."""

import math
from itertools import pairwise, product

import pytest
import torch
from assertions import assert_close, assert_same_bits
from torch import Tensor, nn
from torch.nn import functional

from fastplast.config import ACTIVATIONS, METHOD_NAMES, NETWORK_NAMES, OPTIMIZERS, Member
from fastplast.problems import Task

# network, activation, optimizer, momentum, weight decay, method, reduction
CASES = [
    ("mlp", "relu", "adam", 0.0, "coupled", "l2", "mean"),
    ("mlp", "leaky_relu", "adamw", 0.0, "decoupled", "regenerative", "sum"),
    ("mlp", "tanh", "adam", 0.0, "decoupled", "none", "mean"),
    ("mlp", "identity", "sgd", 0.9, "decoupled", "wasserstein", "mean"),
    ("mlp13", "relu", "sgd", 0.9, "coupled", "none", "sum"),
    ("mlp13", "leaky_relu", "sgd", 0.0, "none", "l2", "sum"),
    ("mlp13", "tanh", "adamw", 0.0, "none", "wasserstein", "sum"),
    ("mlp13", "identity", "adam", 0.0, "none", "regenerative", "mean"),
    ("cnn", "relu", "adamw", 0.0, "coupled", "none", "mean"),
    ("cnn", "leaky_relu", "adam", 0.0, "none", "wasserstein", "mean"),
    ("cnn", "tanh", "sgd", 0.5, "coupled", "regenerative", "sum"),
    ("cnn", "identity", "adamw", 0.0, "decoupled", "l2", "mean"),
]
RATES = {"adam": (1e-3, 3e-4, 3e-3), "adamw": (1e-3, 3e-4, 3e-3), "sgd": (0.03, 0.01, 0.1)}
STRENGTHS = {"mean": (3.0, 30.0, 0.3), "sum": (1e-2, 1e-1, 1e-3)}
EPOCHS = 10
MODULES = {"relu": nn.ReLU, "leaky_relu": lambda: nn.LeakyReLU(0.01), "tanh": nn.Tanh, "identity": nn.Identity}


def ordinary_module(trial, member: int) -> nn.Sequential:
    """A member as anyone would write it, with its initial parameters."""
    e, stages, inputs = trial.experiment, [], trial.dataset.images.shape[1]
    if e.network == "cnn":
        stages.append(nn.Unflatten(1, trial.dataset.shape))
        for before, after in pairwise((trial.dataset.shape[0], *e.channels)):
            stages += [nn.Conv2d(before, after, 3, stride=2, padding=1), MODULES[e.activation]()]
        stages.append(nn.Flatten())
        inputs = nn.Sequential(*stages)(torch.zeros(1, inputs)).shape[1]
    for before, after in pairwise((inputs, *e.widths)):
        stages += [nn.Linear(before, after), MODULES[e.activation]()]
    module = nn.Sequential(*stages, nn.Linear(e.widths[-1], trial.dataset.num_classes))
    for parameter, slot in zip(module.parameters(), trial.group.layout.slots, strict=True):
        parameter.data = trial.state.init[member, slot.slice].reshape(parameter.shape).clone()
    return module


def ordinary_optimizer(trial, member: int, module: nn.Module) -> torch.optim.Optimizer:
    e, rate = trial.experiment, trial.group.members[member].learning_rate
    if e.optimizer == "sgd":
        coupled = 0.0 if e.decoupled else e.weight_decay
        return torch.optim.SGD(module.parameters(), rate, momentum=e.momentum, weight_decay=coupled)
    kind = torch.optim.AdamW if e.decoupled else torch.optim.Adam
    return kind(module.parameters(), rate, weight_decay=e.weight_decay)


def ordinary_penalty(method: str, reduction: str, module: nn.Module, start: list[Tensor]) -> Tensor:
    total = torch.zeros((), dtype=start[0].dtype)
    for w, w0 in zip(module.parameters(), start):
        if w.ndim == 1 or method == "none":
            continue
        pairs = {
            "l2": (w, torch.zeros_like(w)),
            "regenerative": (w, w0),
            "wasserstein": (w.flatten().sort().values, w0.flatten().sort().values),
        }
        a, b = pairs[method]
        total = total + (((a - b) ** 2).mean() if reduction == "mean" else ((a - b) ** 2).sum())
    return total


class Ordinary:
    """One member trained by itself, and the five-line definitions of the accumulators."""

    def __init__(self, trial, member: int, dtype: torch.dtype = torch.float32) -> None:
        self.trial, self.member, self.module = trial, member, ordinary_module(trial, member).to(dtype)
        self.optimizer = ordinary_optimizer(trial, member, self.module)
        self.start = [p.detach().clone() for p in self.module.parameters()]
        self.loss, self.error, self.l1, self.l2, self.dtype = [], [], [], [], dtype

    def vector(self) -> Tensor:
        return nn.utils.parameters_to_vector(self.module.parameters()).detach()

    def batch(self, task: Task, positions: Tensor) -> tuple[Tensor, Tensor]:
        rows = task.rows[self.member, positions]
        x = torch.from_numpy(self.trial.dataset.images)[rows].to(self.dtype) / 255
        if task.pixels is not None:
            x = x[:, task.pixels[self.member]]
        return x, task.labels[self.member, positions]

    def step(self, task: Task, positions: Tensor) -> None:
        e, own, before = self.trial.experiment, self.trial.group.members[self.member], self.vector()
        x, y = self.batch(task, positions[positions >= 0])
        logits = self.module(x)
        loss = functional.cross_entropy(logits, y)
        penalty = ordinary_penalty(own.method, e.reduction, self.module, self.start)
        self.optimizer.zero_grad()
        (loss + own.strength * penalty).backward()
        if e.optimizer == "sgd" and e.decoupled:
            for parameter in self.module.parameters():
                parameter.data *= 1 - own.learning_rate * e.weight_decay
        self.optimizer.step()
        change = (self.vector() - before).double()
        self.loss.append(float(loss.detach()))
        self.error.append(float((logits.argmax(1) != y).double().mean()))
        self.l1.append(float(change.abs().mean()))
        self.l2.append(float(change.square().sum().sqrt()))

    def moments(self) -> list[Tensor]:
        """First and second moments, or the momentum buffer, as vectors."""
        names = ("momentum_buffer",) if self.trial.experiment.optimizer == "sgd" else ("exp_avg", "exp_avg_sq")
        states = self.optimizer.state.values()
        return [torch.cat([s[n].flatten() for s in states]) for n in names if all(s.get(n) is not None for s in states)]


def true_parameters(trial, arena: Tensor) -> Tensor:
    """`[M, P]` without padding."""
    return torch.cat([arena[:, slot.slice] for slot in trial.group.layout.slots], 1)
