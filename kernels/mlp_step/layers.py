"""What a network is to these kernels: dense layers, each with its place in a member's row of the arena."""

from __future__ import annotations

from dataclasses import dataclass

NORM_EPSILON = 1e-5  # added to the variance by layer normalisation, as in PyTorch


def widening(activation: str) -> int:
    """Values per output: two of ``crelu``, one of the others."""
    return 2 if activation == "crelu" else 1


@dataclass(frozen=True)
class DenseLayer:
    """A dense layer, its normalisation and its activation.

    Attributes:
        inputs: I.
        outputs: O.
        weight: index of the weight matrix `[O, I]` in a member's row.
        bias: index of the bias `[O]`.
        activation: ``relu``, ``leaky_relu``, ``tanh``, ``identity``, or ``crelu``, which gives 2 O values.
        slope: of ``leaky_relu`` where the input is negative.
        pull: the factor c of the pull-to-target rule, for the weight matrix.
        norm_scale: index of the factors `[O]` of the layer normalisation before the activation; -1 for none.
        norm_shift: index of what it adds, `[O]`; -1 for none.
        dropout: fraction of the activations that is dropped in training.
        number: among the hidden layers, for the masks of dropout.
    """

    inputs: int
    outputs: int
    weight: int
    bias: int
    activation: str = "identity"
    slope: float = 0.0
    pull: float = 0.0
    norm_scale: int = -1
    norm_shift: int = -1
    dropout: float = 0.0
    number: int = 0

    @property
    def normed(self) -> bool:
        """Whether the outputs are normalised."""
        return self.norm_scale >= 0

    @property
    def width(self) -> int:
        """Number of activations."""
        return widening(self.activation) * self.outputs

    @property
    def shape_above(self) -> tuple[int]:
        """Of what the layer above sees."""
        return (self.width,)

    @property
    def pixels(self) -> int:
        """Of an output: 1, as convolutions have more."""
        return 1

    @property
    def positions(self) -> int:
        """Of the weights on the input: 1, as kernels of convolutions have more."""
        return 1

    @property
    def count(self) -> int:
        """Number of parameters."""
        return (self.inputs + 1 + 2 * self.normed) * self.outputs
