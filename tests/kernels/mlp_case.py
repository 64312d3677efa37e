"""A group of small perceptrons, its task and its state, for the tests of the training step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from fastplast_kernels.optimisers import Hyperparameters
from fastplast_kernels.train_step import DenseLayer, reference
from torch import Tensor

from fastplast.problems import Task

if TYPE_CHECKING:
    from fastplast_kernels.train_step.cpu import train as cpu  # Numba may be missing where the GPU is

ALIGNMENT = 16


@dataclass(frozen=True)
class Case:
    """Everything that `train` takes."""

    params: Tensor
    m: Tensor
    v: Tensor
    steps: Tensor
    diverged: Tensor
    layers: tuple[DenseLayer, ...]
    task: Task
    order: Tensor
    hyper: Hyperparameters
    optimizer: str = "adam"
    decoupled: bool = False
    anchor: Tensor | None = None
    ranked: Tensor | None = None
    keys: Tensor | None = None

    def fresh(self, **changes: object) -> Case:
        """A copy with tensors of its own for what training changes."""
        state = {name: getattr(self, name).clone() for name in ("params", "m", "v", "steps", "diverged")}
        return replace(self, **{**state, **changes})

    def is_parameter(self) -> Tensor:
        """`[P]` bool, False on padding."""
        row = torch.zeros(1, self.params.shape[1])
        for layer in self.layers:
            reference.weight_of(row, layer).fill_(1)
            reference.bias_of(row, layer).fill_(1)
            if layer.normed:
                for at in (layer.norm_scale, layer.norm_shift):
                    row[:, at : at + layer.outputs] = 1
        return row[0] > 0

    def pick(self, members: list[int]) -> Case:
        """Some of the members, in this order."""
        task = self.task
        pixels = None if task.pixels is None else task.pixels[members]
        return self.fresh(
            **{name: getattr(self, name)[members].clone() for name in ("params", "m", "v", "steps", "diverged")},
            task=replace(task, rows=task.rows[members], labels=task.labels[members], pixels=pixels),
            order=self.order[members],
            hyper=Hyperparameters(*(x[members] for x in self.hyper)),
            anchor=None if self.anchor is None else self.anchor[members].contiguous(),
            ranked=None if self.ranked is None else self.ranked[members],
            keys=None if self.keys is None else self.keys[members],
        )

    def train(self, threads: int = 1, order: Tensor | None = None) -> cpu.Sums:
        """Trains this case's own tensors with the kernel on the CPU."""
        from fastplast_kernels.train_step.cpu import train as cpu  # Numba may be missing where the GPU is

        return cpu.train(
            self.params,
            self.m,
            self.v,
            self.steps,
            self.diverged,
            self.layers,
            self.task,
            self.order if order is None else order,
            self.hyper,
            self.optimizer,
            self.decoupled,
            self.anchor,
            self.ranked,
            self.keys,
            threads,
        )

    def train_reference(self, order: Tensor | None = None) -> Tensor:
        """Trains this case's own tensors by the definition, with gradients in float64."""
        return reference.train(
            self.params,
            self.m,
            self.v,
            self.steps,
            self.diverged,
            self.layers,
            lambda positions: self.task.inputs(positions).double(),
            self.task.labels,
            self.order if order is None else order,
            self.hyper,
            self.optimizer,
            self.decoupled,
            self.anchor,
            self.ranked,
            self.keys,
        )


def make_layers(
    sizes: tuple[int, ...], activation: str, norm: bool = False, dropout: float = 0.0
) -> tuple[tuple[DenseLayer, ...], int]:
    """Layers in an arena row, each part at a multiple of the alignment, and the length of the row.

    Args:
        sizes: inputs, then outputs of each layer.
        activation: of all but the last, as are the others.
        norm: whether they are normalised.
        dropout: fraction of their activations that is dropped.
    """
    layers, end, inputs = [], 0, sizes[0]

    def place(count: int) -> int:
        nonlocal end
        start, end = end, -(-(end + count) // ALIGNMENT) * ALIGNMENT
        return start

    for i, outputs in enumerate(sizes[1:]):
        hidden = i < len(sizes) - 2
        at, kind = (place(inputs * outputs), place(outputs)), activation if hidden else "identity"
        norms = (place(outputs), place(outputs)) if norm and hidden else (-1, -1)
        pull, rate = 1 / (inputs * outputs), dropout if hidden else 0.0
        layers.append(DenseLayer(inputs, outputs, *at, kind, 0.01, pull, *norms, rate, i))
        inputs = layers[-1].width
    return tuple(layers), end


def make_case(
    sizes: tuple[int, ...] = (37, 21, 18, 5),
    activation: str = "relu",
    members: int = 3,
    batch: int = 16,
    steps: int = 20,
    examples: int = 50,
    ragged: bool = False,
    permuted: bool = False,
    floats: bool = False,
    pull: str = "none",
    seed: int = 0,
    norm: bool = False,
    dropout: float = 0.0,
    **fields: object,
) -> Case:
    """Members with different hyperparameters; `pull` names the anchor, ``mixed`` gives each member another."""
    torch.manual_seed(seed)
    layers, size = make_layers(sizes, activation, norm, dropout)
    params = torch.zeros(members, size)
    for layer in layers:
        limit = (6 / (layer.inputs + layer.outputs)) ** 0.5
        reference.weight_of(params, layer).uniform_(-limit, limit)
        reference.bias_of(params, layer).uniform_(-0.1, 0.1)
        if layer.normed:
            params[:, layer.norm_scale : layer.norm_scale + layer.outputs].uniform_(0.5, 1.5)
            params[:, layer.norm_shift : layer.norm_shift + layer.outputs].uniform_(-0.1, 0.1)
    images = torch.randint(0, 256, (examples + 9, sizes[0]), dtype=torch.uint8)
    images = images.float() if floats else images
    rows = torch.stack([torch.randperm(len(images))[:examples] for _ in range(members)])
    labels = torch.randint(0, sizes[-1], (members, examples))
    pixels = torch.stack([torch.randperm(sizes[0]) for _ in range(members)]) if permuted else None
    scale, shift = torch.rand(sizes[0]) / 100, torch.rand(sizes[0]) - 1
    task = Task(0, images, rows, labels, pixels, scale, shift, (1, 1, sizes[0]), sizes[-1])
    order = torch.stack([torch.stack([torch.randperm(examples)[:batch] for _ in range(steps)]) for _ in range(members)])
    if ragged:
        order[:, 2::3, (batch + 1) // 2 :] = -1
    zeros = torch.zeros(members, dtype=torch.int64)
    number = torch.arange(members, dtype=torch.float64)
    hyper = Hyperparameters(
        learning_rate=1e-3 * (1 + number),
        beta1=0.9 - 0.2 * number / members,
        beta2=0.999 - 0.1 * number / members,
        epsilon=1e-8 * 10**number,
        momentum=0.9 - 0.3 * number / members,
        weight_decay=0 * number,
        strength=0 * number if pull == "none" else 10.0 * (1 + number),
    )
    kinds = {"mixed": [("none", "l2", "regenerative", "wasserstein")[i % 4] for i in range(members)]}
    names = kinds.get(pull, [pull] * members)
    anchor = None if pull == "none" else torch.stack([make_anchor(p, layers, n) for p, n in zip(params, names)])
    ranked = torch.tensor([name == "wasserstein" for name in names])
    hyper.strength[[name == "none" for name in names]] = 0
    case = Case(
        params, torch.zeros_like(params), torch.zeros_like(params), zeros, zeros - 1, layers, task, order, hyper
    )
    keys = torch.randint(0, 1 << 32, (members, 2)) if dropout else None
    return replace(case, anchor=anchor, ranked=ranked, keys=keys, **fields)


def make_anchor(row: Tensor, layers: tuple[DenseLayer, ...], name: str) -> Tensor:
    """What one member's weights are pulled to; for the regenerative regulariser other weights than its own."""
    anchor = torch.zeros_like(row) if name == "l2" else row.flip(0).clone()
    for layer in layers:
        weights = slice(layer.weight, layer.weight + layer.inputs * layer.outputs)
        if name == "wasserstein":
            anchor[weights] = anchor[weights].sort().values
    return anchor
