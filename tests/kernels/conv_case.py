"""A group of small convolutional networks, its task and its state, for the tests of their training step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from fastplast_kernels.train_step import ConvLayer, DenseLayer, reference
from fastplast_kernels.train_step.reference import bias_of, weight_of
from mlp_case import ALIGNMENT, Case, make_anchor, make_case
from torch import Tensor

if TYPE_CHECKING:
    from fastplast_kernels.train_step.cpu import train as cpu  # Numba may be missing where the GPU is

PULLS = ("none", "l2", "regenerative", "wasserstein")  # of members 0, 1, 2, 3 where the pull is mixed


@dataclass(frozen=True)
class ConvCase(Case):
    """Everything that `train` takes, for convolutional networks."""

    def train(self, threads: int = 1, order: Tensor | None = None) -> cpu.Sums:
        """Trains this case's own tensors with the kernel on the CPU."""
        from fastplast_kernels.train_step.cpu import train as cpu  # Numba may be missing where the GPU is

        return cpu.train(*self.arguments(order), threads)

    def train_reference(self, order: Tensor | None = None) -> Tensor:
        """Trains this case's own tensors by the definition, with gradients in float64."""
        inputs, labels = lambda positions: self.task.inputs(positions).double(), self.task.labels
        arguments = self.arguments(order)
        return reference.train(*arguments[:6], inputs, labels, *arguments[7:])

    def arguments(self, order: Tensor | None) -> tuple:
        """The arguments of `train` but the threads."""
        state = (self.params, self.m, self.v, self.steps, self.diverged)
        rule = (self.hyper, self.optimizer, self.decoupled, self.anchor, self.ranked, self.keys)
        return (*state, self.layers, self.task, self.order if order is None else order, *rule)


def make_conv_layers(
    shape: tuple[int, int, int],
    convolutions: list[tuple[int, int, int, int]],
    sizes: list[int],
    activation: str,
    pool: int | tuple[int, ...] = 1,
    norm: bool = False,
    dropout: float = 0.0,
) -> tuple[tuple[ConvLayer | DenseLayer, ...], int]:
    """Layers in an arena row, each part at a multiple of the alignment, and the length of the row.

    Args:
        shape: (channels, height, width) of an image.
        convolutions: (outputs, kernel, stride, padding) of each.
        sizes: outputs of each dense layer.
        activation: of all but the last.
        pool: after each convolution; of each, or one for all.
        norm: whether all but the last are normalised.
        dropout: fraction of their activations that is dropped.
    """
    layers: list[ConvLayer | DenseLayer] = []
    end = 0

    def place(count: int) -> int:
        nonlocal end
        start, end = end, -(-(end + count) // ALIGNMENT) * ALIGNMENT
        return start

    def places(inputs: int, outputs: int, hidden: bool = True) -> dict[str, Any]:
        own = {"weight": place(inputs * outputs), "bias": place(outputs), "slope": 0.01, "pull": 1 / (inputs * outputs)}
        if hidden:
            own |= {"activation": activation, "dropout": dropout, "number": len(layers)}
        if norm and hidden:
            own |= {"norm_scale": place(outputs), "norm_shift": place(outputs)}
        return own

    pools = (pool,) * len(convolutions) if isinstance(pool, int) else pool
    for (outputs, kernel, stride, padding), window in zip(convolutions, pools, strict=True):
        own = places(shape[0] * kernel**2, outputs)
        layer = ConvLayer(*shape, outputs, kernel, stride, padding, pool=window, **own)
        shape = layer.shape_above
        layers.append(layer)
    inputs = shape[0] * shape[1] * shape[2]
    for i, outputs in enumerate(sizes):
        layers.append(DenseLayer(inputs, outputs, **places(inputs, outputs, hidden=i < len(sizes) - 1)))
        inputs = layers[-1].width
    return tuple(layers), end


def make_conv_case(
    shape: tuple[int, int, int] = (3, 7, 9),
    convolutions: tuple[tuple[int, int, int, int], ...] = ((5, 3, 2, 1), (4, 3, 1, 0)),
    sizes: tuple[int, ...] = (11, 5),
    activation: str = "relu",
    pull: str = "none",
    pool: int | tuple[int, ...] = 1,
    norm: bool = False,
    dropout: float = 0.0,
    **fields: object,
) -> ConvCase:
    """Members with different hyperparameters, as `make_case`."""
    layers, size = make_conv_layers(shape, list(convolutions), list(sizes), activation, pool, norm, dropout)
    case = make_case((shape[0] * shape[1] * shape[2], sizes[-1]), pull=pull, dropout=dropout, **fields)
    members = len(case.params)
    params = torch.zeros(members, size)
    for layer in layers:
        limit = (6 / (layer.inputs + layer.outputs)) ** 0.5
        weight_of(params, layer).uniform_(-limit, limit)
        bias_of(params, layer).uniform_(-0.1, 0.1)
        if layer.normed:
            params[:, layer.norm_scale : layer.norm_scale + layer.outputs].uniform_(0.5, 1.5)
            params[:, layer.norm_shift : layer.norm_shift + layer.outputs].uniform_(-0.1, 0.1)
    names = [PULLS[i % 4] if pull == "mixed" else pull for i in range(members)]
    anchor = None if pull == "none" else torch.stack([make_anchor(p, layers, n) for p, n in zip(params, names)])
    task = replace(case.task, shape=shape)
    own = {"params": params, "m": torch.zeros_like(params), "v": torch.zeros_like(params), "layers": layers}
    return ConvCase(**{**vars(case), **own, "task": task, "anchor": anchor})
