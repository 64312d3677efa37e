"""What a built-in network is: a short list of layers, each a frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass

from fastplast.networks.layout import Layout


@dataclass(frozen=True)
class Dense:
    """A fully connected layer, weight `[O, I]` and bias `[O]`; ``activated`` is False on the last layer."""

    name: str
    inputs: int
    outputs: int
    activated: bool = True

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """`[O, I]`."""
        return (self.outputs, self.inputs)

    @property
    def fan_in(self) -> int:
        """Inputs per output."""
        return self.inputs

    @property
    def fan_out(self) -> int:
        """Outputs per input."""
        return self.outputs


@dataclass(frozen=True)
class Conv:
    """A convolution of a `[in_channels, height, width]` input, weight `[O, in_channels, kernel, kernel]`."""

    name: str
    in_channels: int
    outputs: int
    height: int
    width: int
    kernel: int = 3
    stride: int = 2
    padding: int = 1
    activated: bool = True

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """`[O, in_channels, kernel, kernel]`."""
        return (self.outputs, self.in_channels, self.kernel, self.kernel)

    @property
    def fan_in(self) -> int:
        """Inputs per output."""
        return self.in_channels * self.kernel**2

    @property
    def fan_out(self) -> int:
        """Outputs per input, as PyTorch counts them for a convolution."""
        return self.outputs * self.kernel**2

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """`[O, height, width]` of the output."""

        def size(length: int) -> int:
            return (length + 2 * self.padding - self.kernel) // self.stride + 1

        return (self.outputs, size(self.height), size(self.width))


Layer = Dense | Conv


def layout_of(layers: tuple[Layer, ...]) -> Layout:
    """The arena layout of a stack of layers: weight then bias, in order.

    Args:
        layers: the network's layers.

    Returns:
        The layout, with names ``<layer>.weight`` and ``<layer>.bias``.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in layers:
        shapes[f"{layer.name}.weight"] = layer.weight_shape
        shapes[f"{layer.name}.bias"] = (layer.outputs,)
    return Layout.pack(shapes, weights={f"{layer.name}.weight" for layer in layers})
