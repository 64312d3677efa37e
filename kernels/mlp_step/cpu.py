"""Training of many multilayer perceptrons on the cores of a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from fastplast_kernels.constants import CODES
from fastplast_kernels.mlp_step import calls, step
from fastplast_kernels.mlp_step.arguments import Data, Sums, check_layers
from fastplast_kernels.mlp_step.layers import DenseLayer
from fastplast_kernels.mlp_step.simd import LANES
from fastplast_kernels.optimisers import NUM_COEFFICIENTS, Hyperparameters
from fastplast_kernels.wasserstein.cpu import new_scratch
from torch import Tensor

_TRAINERS = {"adam": step.train_adam, "adamw": step.train_adam, "sgd": step.train_sgd}


def train(
    params: Tensor,
    m: Tensor,
    v: Tensor,
    steps: Tensor,
    diverged: Tensor,
    layers: Sequence[DenseLayer],
    data: Data,
    order: Tensor,
    hyper: Hyperparameters,
    optimizer: str = "adam",
    decoupled: bool = False,
    anchor: Tensor | None = None,
    ranked: Tensor | None = None,
    keys: Tensor | None = None,
    threads: int | None = None,
) -> Sums:
    """Trains `M` networks, one update for each of `S` minibatches, changing the first five arguments in place.

    Forward pass, cross-entropy, backward pass, pull and optimiser are those of ``reference.train``. A member's bits do
    not depend on the others, on the number of threads or on how the steps are split into calls. A member whose batch
    loss is not finite, or whose update has an L1 norm that is not finite, is left as it was before that update.

    Args:
        params: `[M, P]` float32, contiguous.
        m: `[M, P]` float32, first moments, or the momentum buffers of ``sgd``.
        v: `[M, P]` float32, second moments; not touched by ``sgd``.
        steps: `[M]` int64, updates made so far.
        diverged: `[M]` int64, the update (from 0) before which a member was frozen; -1 for one in good health.
        layers: input to output.
        data: the task.
        order: `[M, S, B]` int64, positions among the member's examples; -1 from some position on ends a ragged batch.
        hyper: per member.
        optimizer: ``adam``, ``adamw`` (the same) or ``sgd``.
        decoupled: whether weight decay shrinks the weights directly or enters the gradient.
        anchor: `[M, P]` float32, what weights are pulled to; may be None if every strength is 0.
        ranked: `[M]` bool, members whose anchor holds the sorted targets of each weight matrix, dealt out by rank.
        keys: `[M, 2]` int64, of the members' masks, of ``dropout.dropout_mask``; may be None without dropout.
        threads: cores to use; None for all that this process may use.

    Returns:
        Sums over the updates of this call.

    Raises:
        ValueError: if shapes, names or indices do not fit together.
        TypeError: if a tensor has the wrong dtype or is not contiguous.
    """
    state = (params, m, v, steps, diverged)

    def plan(batch: int) -> calls.Plan:
        check_layers(layers, params.shape[1], data.scale.numel())
        return _plan(layers, batch)

    return calls.train(state, plan, data, order, hyper, optimizer, decoupled, anchor, ranked, keys, threads, _TRAINERS)


def _plan(layers: Sequence[DenseLayer], batch: int) -> calls.Plan:
    network, width = places(layers, batch)
    return calls.Plan(
        network,
        layers,
        classes=layers[-1].width,
        count=sum(layer.count for layer in layers),
        largest=max(layer.inputs * layer.outputs for layer in layers),
        scratch=lambda size, largest: new_memory(width, layers[0].inputs, batch, size, largest),
    )


def places(layers: Sequence[DenseLayer], batch: int) -> tuple[step.Network, int]:
    """Where activations and gradients lie.

    Args:
        layers: input to output.
        batch: number of examples.

    Returns:
        Tables of the network, and how many floats it takes.
    """
    end = 0

    def place(floats: int) -> int:
        nonlocal end
        start, end = end, end + -(-floats // step.STRIDE) * step.STRIDE
        return start

    def rows(width: int) -> int:
        return place(-(-width // step.STRIDE) * step.STRIDE * batch)

    table, x = [], rows(layers[0].inputs)
    for layer in layers:
        z, d = rows(layer.outputs), rows(layer.outputs)
        y, g = (z, d) if layer.width == layer.outputs else (rows(layer.width), rows(layer.width))
        kept = (rows(layer.outputs), place(batch)) if layer.normed else (0, 0)
        mask = place(layer.width * batch + LANES) if layer.dropout else 0
        sizes = (layer.inputs, layer.outputs, layer.weight, layer.bias, CODES[layer.activation])
        norm = (layer.norm_scale, layer.norm_shift)
        table.append((*sizes, x, y, d, z, g, *norm, *kept, mask, layer.number))
        x = rows(layer.width) if layer.dropout else y
    factors = np.array([(layer.slope, layer.pull, layer.dropout) for layer in layers], np.float64)
    return step.Network(np.array(table, np.int64), factors), end


def new_memory(width: int, inputs: int, batch: int, size: int, largest: int) -> step.Scratch:
    """The memory of one thread.

    Args:
        width: floats for activations and gradients.
        inputs: I of the first layer.
        batch: B.
        size: P, for copies of a member's state.
        largest: weights that are ranked at a time.

    Returns:
        The memory.
    """
    # PyTorch aligns its memory to cache lines, NumPy does not.
    floats = [torch.zeros(n).numpy() for n in (width, inputs, NUM_COEFFICIENTS, 1, largest)]
    values, line, coefficients, one, target = floats
    one[0] = 1.0
    sorting = new_scratch(largest) if largest else np.empty(0, np.int32)
    snapshot = torch.empty(3, size).numpy()
    return step.Scratch(values, line, np.empty(batch, np.int64), coefficients, one, target, sorting, snapshot)
