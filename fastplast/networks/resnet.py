"""ResNet-18 for small images: He et al. 2016, with a first convolution of 3x3 and stride 1 and no pooling after it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512)  # of the four stages, of two blocks each
_GROUPS = 32  # of group normalisation (Wu, He 2018)
Norm = Callable[[int], nn.Module]


def group_norm(channels: int) -> nn.Module:
    """Group normalisation, of as many groups as divide the channels, at most 32.

    Args:
        channels: of the layer.

    Returns:
        The layer.
    """
    return nn.GroupNorm(next(groups for groups in range(_GROUPS, 0, -1) if channels % groups == 0), channels)


class _Block(nn.Module):
    """Two convolutions of 3x3 beside a shortcut, which is a convolution of 1x1 where sizes change."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), norm(outputs)
        self.conv2, self.norm2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), norm(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(self.conv1(x)).relu()
        return (self.norm2(self.conv2(h)) + self.shortcut(x)).relu()


class ResNet18(nn.Module):
    """The network.

    Args:
        channels: of an image.
        num_classes: C.
        norm: from channels to a layer of normalisation.
        widths: channels of the stages.
    """

    def __init__(self, channels: int, num_classes: int, norm: Norm, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False), norm(widths[0])
        blocks, inputs = [], widths[0]
        for stage, width in enumerate(widths):
            for block in range(2):
                blocks.append(_Block(inputs, width, 2 if stage and not block else 1, norm))
                inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs `[B, C]` of images `[B, channels, height, width]`."""
        h = self.blocks(self.norm(self.conv(x)).relu())
        return self.head(h.mean((2, 3)))
