"""What a convolutional network is to these kernels: convolutions, then dense layers, placed in a member's row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ConvLayer:
    """A convolution, its activation and max pooling.

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
        activation: ``relu``, ``leaky_relu``, ``tanh`` or ``identity``.
        slope: of ``leaky_relu`` where the input is negative.
        pull: the factor c of the pull-to-target rule, for the weights.
        pool: side and stride of the max pooling of the activations; 1 for none.
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

    @property
    def inputs(self) -> int:
        """Values that an output pixel sees: as a matrix, the weights are `[outputs, inputs]`."""
        return self.channels * self.kernel**2

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
        return (self.inputs + 1) * self.outputs

    @property
    def out_height(self) -> int:
        """Height of the output, before the pooling."""
        return (self.height + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def out_width(self) -> int:
        """Width of the output, before the pooling."""
        return (self.width + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def shape_above(self) -> tuple[int, int, int]:
        """Channels, height and width of what the layer above sees."""
        return (self.outputs, self.out_height // self.pool, self.out_width // self.pool)
