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
    norm: bool = False

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """`[O, I]`."""
        return (self.outputs, self.inputs)


@dataclass(frozen=True)
class Conv:
    """A convolution of a `[in_channels, height, width]` input, weight `[O, in_channels, kernel, kernel]`.

    ``pool`` is the side and stride of the max pooling that follows the activation; 1 is none. With ``norm`` the layer's
    outputs are normalised before the activation: over its units, of a convolution over channels and space.
    """

    name: str
    in_channels: int
    outputs: int
    height: int
    width: int
    kernel: int = 3
    stride: int = 2
    padding: int = 1
    activated: bool = True
    norm: bool = False
    pool: int = 1

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """`[O, in_channels, kernel, kernel]`."""
        return (self.outputs, self.in_channels, self.kernel, self.kernel)

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """`[O, height, width]` of the output, after the pooling."""

        def size(length: int) -> int:
            return ((length + 2 * self.padding - self.kernel) // self.stride + 1) // self.pool

        return (self.outputs, size(self.height), size(self.width))


Layer = Dense | Conv


def layout_of(layers: tuple[Layer, ...]) -> Layout:
    """The arena layout of a stack of layers: weight then bias, then scale and shift of a normalised layer.

    Args:
        layers: the network's layers.

    Returns:
        The layout, with names ``<layer>.weight`` and ``<layer>.bias``.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in layers:
        shapes[f"{layer.name}.weight"] = layer.weight_shape
        shapes[f"{layer.name}.bias"] = (layer.outputs,)
        if layer.norm:
            shapes[f"{layer.name}.norm_scale"] = (layer.outputs,)
            shapes[f"{layer.name}.norm_shift"] = (layer.outputs,)
    return Layout.pack(shapes, weights={f"{layer.name}.weight" for layer in layers})
