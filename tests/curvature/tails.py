"""Tails for the tests, their loss as anyone would write it, and the way from deflated coordinates to parameters."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from fastplast.config import Experiment
from fastplast.curvature import Tail
from fastplast.curvature.coordinates import coordinates
from fastplast.measuring.hessian import tail_of
from fastplast.measuring.probes import evaluate
from fastplast.problems import make_task
from fastplast.seeding import orders
from fastplast.training.setup import prepare


def make_tail(
    activation: str = "relu",
    members: int = 1,
    examples: int = 7,
    inputs: int = 5,
    hidden: int = 4,
    classes: int = 3,
    seed: int = 0,
    weight_scale: float = 1.0,
) -> Tail:
    """A random tail; ReLU-like inputs, no unit dead by construction."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return Tail(
        normal(members, examples, inputs).clamp(min=0),
        normal(members, hidden, inputs) * weight_scale,
        normal(members, hidden) * 0.3,
        normal(members, classes, hidden) * weight_scale,
        normal(members, classes) * 0.3,
        torch.randint(0, classes, (members, examples), generator=generator),
        activation,
        0.1,
    )


def paper_tail(activation: str, members: int = 1, alive: int = 64, seed: int = 0) -> Tail:
    """The paper's 64-32-10 tail at its Glorot initialisation on 1280 examples; a few inputs alive means collapsed."""
    generator = torch.Generator().manual_seed(seed)

    def glorot(rows: int, columns: int) -> Tensor:
        return (torch.rand(members, rows, columns, generator=generator) * 2 - 1) * (6 / (rows + columns)) ** 0.5

    features = torch.randn(members, 1280, 20, generator=generator) @ torch.randn(20, 64, generator=generator) / 20**0.5
    features[..., alive:] = 0.0
    labels = torch.randint(0, 10, (members, 1280), generator=generator)
    zeros = torch.zeros(members, 32), torch.zeros(members, 10)
    return Tail(features.relu(), glorot(32, 64), zeros[0], glorot(10, 32), zeros[1], labels, activation)


def flatten(hidden: Tensor, output: Tensor) -> Tensor:
    """`[..., H, I+1]` and `[..., C, H+1]` as one vector `[..., D]`."""
    return torch.cat((hidden.flatten(-2), output.flatten(-2)), -1)


def split(tail: Tail, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse of `flatten`."""
    units, inputs = tail.hidden_weight.shape[1:]
    classes = tail.output_weight.shape[1]
    hidden, output = vectors.split((units * (inputs + 1), classes * (units + 1)), -1)
    return hidden.unflatten(-1, (units, inputs + 1)), output.unflatten(-1, (classes, units + 1))


def outputs_and_block(tail: Tail, member: int = 0) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The outputs `[N, C]` as a function of one member's flattened weights and biases, and those `[D]`."""
    activations = {
        "relu": functional.relu,
        "leaky_relu": lambda z: functional.leaky_relu(z, tail.negative_slope),
        "tanh": torch.tanh,
        "identity": lambda z: z,
    }

    def outputs(vector: Tensor) -> Tensor:
        hidden, output = split(tail, vector)
        values = activations[tail.activation](tail.inputs[member] @ hidden[:, :-1].T + hidden[:, -1])
        return values @ output[:, :-1].T + output[:, -1]

    hidden = torch.cat((tail.hidden_weight[member], tail.hidden_bias[member].unsqueeze(1)), 1)
    output = torch.cat((tail.output_weight[member], tail.output_bias[member].unsqueeze(1)), 1)
    return outputs, flatten(hidden, output)


def loss_and_block(tail: Tail, member: int = 0) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The mean cross-entropy as a function of one member's flattened weights and biases, and those `[D]`."""
    outputs, block = outputs_and_block(tail, member)
    return lambda vector: functional.cross_entropy(outputs(vector), tail.labels[member]), block


def embedding(tail: Tail) -> Tensor:
    """Deflated coordinates as columns `[D, dimension]` of parameters, for one member without silent units."""
    at, state = coordinates(tail), tail.state
    alive = (state.slope[0] != 0).any(0).nonzero().squeeze(1)
    assert at.slope.shape[1] == at.weight.shape[1] == len(alive), "the tail has silent units"
    inputs = torch.linalg.lstsq(state.inputs[0], at.inputs, driver="gelsd").solution.contiguous()  # the rotation
    units = state.slope.shape[2]
    chosen = torch.eye(units + 1, dtype=torch.float64)[:, [*alive.tolist(), units]]
    return torch.block_diag(torch.kron(chosen[:units, :-1].contiguous(), inputs), torch.kron(at.basis, chosen))


def padded(eigenvalues: Tensor, size: int) -> Tensor:
    """A spectrum with the exact zeros that deflation left out, ascending."""
    return torch.cat((eigenvalues, eigenvalues.new_zeros(max(0, size - len(eigenvalues))))).sort().values


@functools.cache
def real_tail(benchmark: str, activation: str, epochs: int = 8) -> tuple[Tail, Tensor]:
    """One paper-size network trained for some epochs on real images, and the labels `[1, N]` of its next task."""
    experiment = Experiment(
        benchmark=benchmark,
        activation=activation,
        seeds=1,
        epochs=epochs,
        tasks=2,
        srank="off",
        engine="cpu",
        threads=1,
    )
    setup = prepare(experiment)
    task, following = make_task(setup.problem, 0), make_task(setup.problem, 1)
    for epoch in range(epochs):
        setup.engine.run(setup.state, task, torch.from_numpy(orders(setup.group.seeds, 1280, 16, 0, epoch)))
    inputs = [evaluate(setup.group.network, setup.state.params[0], task, 0).tail_inputs]
    return tail_of(setup.group.network, setup.state.params.clone(), task.labels, inputs), following.labels
