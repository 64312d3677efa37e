"""What a network is to these kernels: dense layers, each with its place in a member's row of the arena."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DenseLayer:
    """A dense layer and its activation.

    Attributes:
        inputs: I.
        outputs: O.
        weight: index of the weight matrix `[O, I]` in a member's row.
        bias: index of the bias `[O]`.
        activation: ``relu``, ``leaky_relu``, ``tanh`` or ``identity``.
        slope: of ``leaky_relu`` where the input is negative.
        pull: the factor c of the pull-to-target rule, for the weight matrix.
    """

    inputs: int
    outputs: int
    weight: int
    bias: int
    activation: str = "identity"
    slope: float = 0.0
    pull: float = 0.0

    @property
    def count(self) -> int:
        """Number of parameters."""
        return (self.inputs + 1) * self.outputs
