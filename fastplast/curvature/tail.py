"""The tail of a network: its last two dense layers, on the data that they see."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

ACTIVATIONS = ("relu", "leaky_relu", "tanh", "identity")
_FLOATS = ("inputs", "hidden_weight", "hidden_bias", "output_weight", "output_bias")


@dataclass(frozen=True)
class TailState:
    """One forward pass of a tail, with the quantities its derivatives are made of; all fp64.

    Attributes:
        inputs: `[M, N, I+1]`, the inputs with a last column of ones.
        hidden: `[M, N, H+1]`, the activated hidden layer with a last column of ones.
        slope: `[M, N, H]`, first derivative of the activation.
        second_derivative: `[M, N, H]`, second derivative of the activation; None where it is zero everywhere.
        probability: `[M, N, C]`, softmax of the outputs.
        others: `[M, N, C]`, one minus the probability, summed from the other classes.
    """

    inputs: Tensor
    hidden: Tensor
    slope: Tensor
    second_derivative: Tensor | None
    probability: Tensor
    others: Tensor


@dataclass(frozen=True)
class Tail:
    """The last two dense layers of `M` networks and the data they see; every tensor is turned to fp64.

    The outputs are ``output_weight @ activation(hidden_weight @ x + hidden_bias) + output_bias`` and the loss is the
    mean cross-entropy over the N examples.

    Attributes:
        inputs: `[M, N, I]`, what enters the hidden layer.
        hidden_weight: `[M, H, I]`.
        hidden_bias: `[M, H]`.
        output_weight: `[M, C, H]`.
        output_bias: `[M, C]`.
        labels: `[M, N]` integers in 0..C-1.
        activation: ``relu``, ``leaky_relu``, ``tanh`` or ``identity``.
        negative_slope: of ``leaky_relu``.

    Raises:
        ValueError: if a shape, a label or the activation is wrong.
    """

    inputs: Tensor
    hidden_weight: Tensor
    hidden_bias: Tensor
    output_weight: Tensor
    output_bias: Tensor
    labels: Tensor
    activation: str = "relu"
    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation is unknown: got {self.activation!r}. Choose from {', '.join(ACTIVATIONS)}.")
        _check_shapes(self)
        _check_labels(self.labels, self.output_weight.shape[1])
        for name in _FLOATS:
            object.__setattr__(self, name, getattr(self, name).detach().double())
        object.__setattr__(self, "labels", self.labels.long())

    @property
    def num_members(self) -> int:
        """M."""
        return self.inputs.shape[0]

    @property
    def block_size(self) -> int:
        """D, the number of weights and biases of the two layers."""
        return sum(t[0].numel() for t in (self.hidden_weight, self.hidden_bias, self.output_weight, self.output_bias))

    @cached_property
    def state(self) -> TailState:
        """The forward pass, computed at its first use and kept."""
        return _forward(self)

    def member(self, index: int) -> Tail:
        """The tail of one member, with `M` = 1.

        Args:
            index: 0..M-1.

        Returns:
            A tail with its own memory, whose alignment does not depend on the index: sums come out in the same order.
        """
        own = {name: getattr(self, name)[index : index + 1].clone() for name in (*_FLOATS, "labels")}
        return replace(self, **own)

    def relabel(self, labels: Tensor) -> Tail:
        """The same tail on the same inputs with other labels.

        Args:
            labels: `[M, N]`.

        Returns:
            A new tail.
        """
        return replace(self, labels=labels)


def softmax_hessian_product(state: TailState, vectors: Tensor) -> Tensor:
    """Products with S = diag(p) - p p', the Hessian of the cross-entropy in the outputs, free of cancellation.

    ``(S v)_c = p_c (1 - p_c) v_c - p_c sum_{c' != c} p_c' v_c'`` with 1 - p_c summed from the other classes, so that
    the result keeps its relative accuracy for confident networks, where 1 - p is far below machine precision.

    Args:
        state: of a tail.
        vectors: `[M, ..., N, C]`.

    Returns:
        `[M, ..., N, C]`.
    """
    shape = (vectors.shape[0],) + (1,) * (vectors.dim() - 3) + state.probability.shape[1:]
    probability, others = state.probability.view(shape), state.others.view(shape)
    return probability * (others * vectors - _sum_of_others(probability * vectors))


def output_residual(state: TailState, labels: Tensor) -> Tensor:
    """The derivative of the cross-entropy in the outputs, r = p - y, free of cancellation.

    Args:
        state: of a tail.
        labels: `[M, N]`.

    Returns:
        `[M, N, C]`; r_y = -sum_{c != y} p_c for the label y.
    """
    label = labels.unsqueeze(-1)
    return state.probability.scatter(-1, label, -state.others.gather(-1, label))


def tail_gradient(tail: Tail) -> tuple[Tensor, Tensor]:
    """Gradient of the mean cross-entropy in the weights and biases of both layers.

    Args:
        tail: of `M` members.

    Returns:
        `[M, H, I+1]` and `[M, C, H+1]`; the last column belongs to the biases.
    """
    state = tail.state
    residual = output_residual(state, tail.labels) / tail.labels.shape[1]
    delta = state.slope * (residual @ tail.output_weight)
    return delta.transpose(1, 2) @ state.inputs, residual.transpose(1, 2) @ state.hidden


def tail_hvp(tail: Tail, hidden_direction: Tensor, output_direction: Tensor) -> tuple[Tensor, Tensor]:
    """Products of the Hessian of the mean cross-entropy with directions in both layers, in closed form.

    Pearlmutter's R-operator written out for two dense layers (Neural Computation 6, 1994). About six floating point
    operations per example, direction and parameter; memory is a few `[M, V, N, H]`.

    Args:
        tail: of `M` members.
        hidden_direction: `[M, V, H, I+1]`, V directions; the last column belongs to the biases.
        output_direction: `[M, V, C, H+1]`.

    Returns:
        The products, shaped as the directions.
    """
    state = tail.state
    residual = output_residual(state, tail.labels).unsqueeze(1)  # [M, 1, N, C]
    weight, slope = tail.output_weight.unsqueeze(1), state.slope.unsqueeze(1)
    hidden, inputs = state.hidden.unsqueeze(1), state.inputs.unsqueeze(1)
    output_weights_direction = output_direction[..., :-1]

    preactivation = inputs @ hidden_direction.transpose(-1, -2)  # [M, V, N, H]
    activated = slope * preactivation
    output = hidden @ output_direction.transpose(-1, -2) + activated @ weight.transpose(-1, -2)
    output = softmax_hessian_product(state, output)  # change of the residual, [M, V, N, C]

    delta = slope * (output @ weight + residual @ output_weights_direction)
    if state.second_derivative is not None:
        delta = delta + state.second_derivative.unsqueeze(1) * preactivation * (residual @ weight)
    on_output = output.transpose(-1, -2) @ hidden
    on_output[..., :-1] += residual.transpose(-1, -2) @ activated
    num_examples = tail.labels.shape[1]
    return delta.transpose(-1, -2) @ inputs / num_examples, on_output / num_examples


def tail_trace(tail: Tail) -> tuple[Tensor, Tensor]:
    """Traces of the two parts of the Hessian, H = G + R, from the examples alone.

    With the letters of ``hessian.py``, ``tr G = mean (sum_k s_k^2 (W' S W)_kk |a|^2 + tr S |h|^2)`` and
    ``tr R = mean sum_k b_k (W' r)_k |a|^2``.

    Args:
        tail: of `M` members.

    Returns:
        tr G `[M]`, which is also the nuclear norm of G, and tr R `[M]`.
    """
    state = tail.state
    columns = tail.output_weight.transpose(1, 2).unsqueeze(2)  # [M, H, 1, C]
    vectors = columns.expand(-1, -1, tail.labels.shape[1], -1)
    quadratic = (vectors * softmax_hessian_product(state, vectors)).sum(-1).transpose(1, 2)  # [M, N, H]
    inputs, hidden = state.inputs.square().sum(-1), state.hidden.square().sum(-1)
    softmax = (state.probability * state.others).sum(-1)
    gauss_newton = ((state.slope.square() * quadratic).sum(-1) * inputs + softmax * hidden).mean(-1)
    if state.second_derivative is None:
        return gauss_newton, torch.zeros_like(gauss_newton)
    pull = state.second_derivative * (output_residual(state, tail.labels) @ tail.output_weight)
    return gauss_newton, (pull.sum(-1) * inputs).mean(-1)


def _check_labels(labels: Tensor, num_classes: int) -> None:
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be integers: got {labels.dtype}. Call .long() on them.")
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        low, high = int(labels.min()), int(labels.max())
        raise ValueError(f"labels must lie in 0..{num_classes - 1}, the rows of output_weight: got {low}..{high}.")


def _check_shapes(tail: Tail) -> None:
    if tail.inputs.dim() != 3 or 0 in tail.inputs.shape[:2]:
        shape = tuple(tail.inputs.shape)
        raise ValueError(f"inputs must be [M, N, I] with M, N > 0: got shape {shape}. One network is M = 1.")
    members, examples, features = tail.inputs.shape
    hidden, classes = tail.hidden_weight.shape[1], tail.output_weight.shape[1]
    if classes < 2:
        raise ValueError(f"output_weight must have a row for each of at least 2 classes: got {classes}.")
    expected = {
        "hidden_weight": (members, hidden, features),
        "hidden_bias": (members, hidden),
        "output_weight": (members, classes, hidden),
        "output_bias": (members, classes),
        "labels": (members, examples),
    }
    for name, shape in expected.items():
        got = tuple(getattr(tail, name).shape)
        if got != shape:
            raise ValueError(f"{name} must have shape {shape} to match the other tensors: got {got}.")


def _forward(tail: Tail) -> TailState:
    z = tail.inputs @ tail.hidden_weight.transpose(1, 2) + tail.hidden_bias.unsqueeze(1)
    hidden, slope, second_derivative = _activate(z, tail.activation, tail.negative_slope)
    outputs = hidden @ tail.output_weight.transpose(1, 2) + tail.output_bias.unsqueeze(1)
    exponential = (outputs - outputs.amax(-1, keepdim=True)).exp()
    total = exponential.sum(-1, keepdim=True)
    ones = torch.ones_like(z[..., :1])
    return TailState(
        inputs=torch.cat((tail.inputs, ones), -1),
        hidden=torch.cat((hidden, ones), -1),
        slope=slope,
        second_derivative=second_derivative,
        probability=exponential / total,
        others=_sum_of_others(exponential) / total,
    )


def _activate(z: Tensor, activation: str, negative_slope: float) -> tuple[Tensor, Tensor, Tensor | None]:
    """The activation and its first two derivatives; at a kink the derivative from the left, as PyTorch has it."""
    if activation == "tanh":
        hidden, slope = z.tanh(), z.cosh().square().reciprocal()  # 1 - tanh^2 would cancel on saturated units
        return hidden, slope, -2 * hidden * slope
    left = {"relu": 0.0, "leaky_relu": negative_slope, "identity": 1.0}[activation]
    slope = torch.full_like(z, left).masked_fill_(z > 0, 1.0)
    return z * slope, slope, None


def _sum_of_others(values: Tensor) -> Tensor:
    """Sum over the last axis without the element itself, never by subtraction."""
    classes = values.shape[-1]
    return values @ (1 - torch.eye(classes, dtype=values.dtype, device=values.device))
