"""What a network is to these kernels: convolutions, then dense layers, each with its place in a member's row."""

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


@dataclass(frozen=True)
class ConvLayer:
    """A convolution, its normalisation, its activation and max pooling.

    As ``nn.Conv2d`` with square kernel, equal strides and zero padding.

    Attributes:
        channels: of the input.
        height: of the input.
        width: of the input.
        outputs: O, channels of the output.
        kernel: height and width of the kernel.
        stride: of the output's pixels on the input.
        padding: zeros around the input.
        weight: index of the weights `[O, channels, kernel, kernel]` in a member's row.
        bias: index of the bias `[O]`.
        activation: ``relu``, ``leaky_relu``, ``tanh``, ``identity``, or ``crelu``, which gives 2 O channels.
        slope: of ``leaky_relu`` where the input is negative.
        pull: the factor c of the pull-to-target rule, for the weights.
        pool: side and stride of the max pooling of the activations; 1 for none.
        norm_scale: index of the factors `[O]` of the layer normalisation before the activation, over channels and
            pixels; -1 for none.
        norm_shift: index of what it adds, `[O]`; -1 for none.
        dropout: fraction of what the layer above sees that is dropped in training.
        number: among the hidden layers, for the masks of dropout.
    """

    channels: int
    height: int
    width: int
    outputs: int
    kernel: int
    stride: int
    padding: int
    weight: int
    bias: int
    activation: str = "identity"
    slope: float = 0.0
    pull: float = 0.0
    pool: int = 1
    norm_scale: int = -1
    norm_shift: int = -1
    dropout: float = 0.0
    number: int = 0

    @property
    def inputs(self) -> int:
        """Values that an output pixel sees: as a matrix, the weights are `[outputs, inputs]`."""
        return self.channels * self.kernel**2

    @property
    def modified(self) -> bool:
        """Whether there is more between a product and what the layer above sees than an activation and pooling."""
        return self.normed or self.dropout > 0 or widening(self.activation) > 1

    @property
    def normed(self) -> bool:
        """Whether the outputs are normalised."""
        return self.norm_scale >= 0

    @property
    def channels_above(self) -> int:
        """Number of channels of the activations."""
        return widening(self.activation) * self.outputs

    @property
    def positions(self) -> int:
        """Of the kernel on the input: pixels of an output channel before the pooling."""
        return self.out_height * self.out_width

    @property
    def pixels(self) -> int:
        """Of an output channel, as the layer above sees it."""
        return self.shape_above[1] * self.shape_above[2]

    @property
    def count(self) -> int:
        """Number of parameters."""
        return (self.inputs + 1 + 2 * self.normed) * self.outputs

    @property
    def out_height(self) -> int:
        """Height of the output, before the pooling."""
        return self._positions_along(self.height)

    @property
    def out_width(self) -> int:
        """Width of the output, before the pooling."""
        return self._positions_along(self.width)

    def _positions_along(self, length: int) -> int:
        return (length + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def shape_above(self) -> tuple[int, int, int]:
        """Channels, height and width of what the layer above sees."""
        return (self.channels_above, self.out_height // self.pool, self.out_width // self.pool)


Layer = ConvLayer | DenseLayer
