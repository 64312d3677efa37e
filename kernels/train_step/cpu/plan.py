"""How a network lies in memory: tables of its layers for the kernels, and the memory of a thread."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from fastplast_kernels.constants import CODES
from fastplast_kernels.optimisers import NUM_COEFFICIENTS
from fastplast_kernels.train_step.cpu.births import TABLE
from fastplast_kernels.train_step.cpu.conv import STRIP, backward_taps, forward_taps, pixel_stride
from fastplast_kernels.train_step.cpu.inputs import WORD
from fastplast_kernels.train_step.cpu.normal import CHUNK
from fastplast_kernels.train_step.cpu.records import CONVOLUTION, DENSE, PIXELS, Layer, Network, Scratch
from fastplast_kernels.train_step.cpu.simd import LANES, nonzero_table
from fastplast_kernels.train_step.cpu.tiles import GROUP
from fastplast_kernels.train_step.layers import ConvLayer
from fastplast_kernels.train_step.layers import Layer as AnyLayer
from fastplast_kernels.wasserstein.cpu import new_scratch

_HUGE_PAGE = 2 << 20
_NONZERO = np.array(nonzero_table(), np.uint16)


def _whole(floats: int) -> int:
    """Rounded up to whole vectors, which are cache lines."""
    return -(-floats // LANES) * LANES


class _Places:
    """Places one after another, each from a cache line on."""

    def __init__(self) -> None:
        self.end = 0

    def take(self, floats: int) -> int:
        start, self.end = self.end, self.end + _whole(floats)
        return start


@dataclass(frozen=True)
class Plan:
    """A network's tables and what a thread needs for minibatches of B examples.

    Attributes:
        network: for the kernels.
        layers: rows of its table.
        batch: B.
    """

    network: Network
    layers: list[Layer]
    batch: int

    def scratch(self, inputs: int, largest: int = 0, pulled: bool = True, copies: int = 0, drawn: int = 0) -> Scratch:
        """The memory of one thread.

        Args:
            inputs: values of an example.
            largest: weights that are ranked at a time; 0 for none.
            pulled: whether there may be a pull to targets that are not ranked.
            copies: of parameters that actions need.
            drawn: normal numbers of a member; 0 for none.

        Returns:
            The memory, all zero.
        """
        groups, layers = -(-self.batch // GROUP), self.layers
        first, examples = layers[0], -(-self.batch // GROUP) * GROUP
        kinds = {kind: [layer for layer in layers if layer.kind == kind] for kind in (PIXELS, DENSE, CONVOLUTION)}
        lines = [max(one.width * one.x_pixel, one.out_width * one.y_pixel) for one in layers if one.kind != PIXELS]
        rows = max(layer.row for layer in layers)
        turned = [max(STRIP, one.out_width * GROUP * one.row) + GROUP * one.row for one in kinds[CONVOLUTION]]
        is_perceptron = first.kind == PIXELS
        lengths = {
            "inputs": _whole(inputs) * examples,
            "images": self.network.group * groups,
            "row": max(lines + [one.out_width * one.y_pixel for one in layers]),
            "lines": max(one.pool * one.out_width * one.y_pixel for one in layers),
            "gradients": max((one.height * one.width * one.x_pixel * groups for one in kinds[DENSE]), default=0),
            "turned": max([rows * examples, *turned]),
            "weights": max((_inputs(one) * one.row for one in kinds[CONVOLUTION]), default=0),
            "vectors": 3 * rows,
            "sums": 2 * rows * GROUP,
            "norms": 2 * rows,
            "mask": max((_width(one) * GROUP for one in layers if one.mask >= 0), default=0),
            "zeros": max(one.channels for one in layers),
            "coefficients": NUM_COEFFICIENTS,
            "line": inputs,
            "births": LANES + 2 * rows + 2 * _whole(max(map(_inputs, layers))),
            "found": 2 * _whole(max(2 * rows, *map(_inputs, layers[1:]), 0)),
            "target": 2 * largest,
            "pulled": max(_inputs(one) * one.row for one in layers) if largest else 0,
            "state": (4 if pulled else 3) * self.network.size,
            "held": copies * self.network.size,
            "drawn": drawn + LANES if drawn else 0,
        }
        ends = np.cumsum([_whole(length) for length in lengths.values()])
        parts = np.split(_memory(int(ends[-1])), ends[:-1])
        floats = {name: part[:length] for (name, length), part in zip(lengths.items(), parts)}
        width = inputs if is_perceptron else 0
        units, above = sum(one.outputs for one in layers[:-1]), sum(map(_width, layers[:-1]))
        return Scratch(
            **floats,
            labels=np.zeros(self.batch, np.int64),
            words=np.zeros(CHUNK if drawn else 0, np.int64),
            sorting=new_scratch(largest) if largest else np.empty(0, np.int32),
            table=_NONZERO,
            pixels=np.zeros((self.batch, _whole(width) + LANES), np.uint16),
            ends=np.zeros((self.batch, _whole(width) // LANES + 1), np.int64),
            examples=np.zeros((-(-self.batch // WORD), width), np.int64),
            sizes=np.zeros(above),
            means=np.zeros(above),
            aged=np.zeros((2, 2 * units + 1), np.float32),
            powers=np.zeros((3, TABLE)),
            alive=np.zeros(width, np.uint8),
        )


def _inputs(layer: Layer) -> int:
    return layer.channels * layer.kernel_height * layer.kernel_width


def _width(layer: Layer) -> int:
    return layer.above * (layer.out_height // layer.pool) * (layer.out_width // layer.pool)


def _memory(floats: int) -> np.ndarray:
    """Zeros that begin a huge page where the system has them: much is strided, and small pages cost a third."""
    block = mmap.mmap(-1, 4 * floats + _HUGE_PAGE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    memory = np.frombuffer(block, np.float32)
    start = -memory.ctypes.data % _HUGE_PAGE // 4
    return memory[start : start + floats]


@lru_cache(maxsize=16)
def plan(layers: tuple[AnyLayer, ...], batch: int) -> Plan:
    """The tables of a network.

    Args:
        layers: input to output.
        batch: B.

    Returns:
        The plan.
    """
    images, params, taps, rows = _Places(), _Places(), [np.zeros((0, 3), np.int64)], []
    x, x_pixel = 0, LANES
    for i, layer in enumerate(layers):
        if isinstance(layer, ConvLayer):
            kind = CONVOLUTION
            shape: dict[str, Any] = {"channels": layer.channels, "height": layer.height, "width": layer.width}
            shape |= {"kernel_height": layer.kernel, "kernel_width": layer.kernel, "pool": layer.pool}
            shape |= {"stride": layer.stride, "padding": layer.padding}
            shape |= {"out_height": layer.out_height, "out_width": layer.out_width}
        else:
            kind = DENSE if i else PIXELS
            area = layers[i - 1].pixels if i else 1
            shape = {"channels": layer.inputs // area, "height": area, "width": 1, "pool": 1}
            shape |= {"kernel_height": area, "kernel_width": 1, "stride": 1, "padding": 0}
            shape |= {"out_height": 1, "out_width": 1}
        if i == 0 and kind == CONVOLUTION:
            x_pixel = pixel_stride(shape["channels"])
            x = images.take(shape["height"] * shape["width"] * x_pixel)
        axes = [(shape["height"], shape["out_height"], shape["kernel_height"])]
        axes += [(shape["width"], shape["out_width"], shape["kernel_width"])]
        at = []
        for make in (forward_taps, backward_taps):
            for size, out, kernel in axes:
                at.append(sum(map(len, taps)))
                taps.append(make(size, out, kernel, shape["stride"], shape["padding"]))
        above, row = layer.shape_above[0], _whole(layer.outputs)
        y_pixel = pixel_stride(above)
        image, seen_image = shape["out_height"] * shape["out_width"] * y_pixel, layer.pixels * y_pixel
        y = images.take(image)
        apart, normed = shape["pool"] > 1 or layer.dropout > 0, layer.normed
        seen = images.take(seen_image) if apart else y
        rows.append(
            Layer(
                kind=kind,
                **shape,
                outputs=layer.outputs,
                activation=CODES[layer.activation],
                above=above,
                weight=params.take(layer.inputs * row),
                bias=params.take(row),
                scale=params.take(row) if normed else -1,
                shift=params.take(row) if normed else -1,
                row=row,
                given_weight=layer.weight,
                given_bias=layer.bias,
                given_scale=layer.norm_scale,
                given_shift=layer.norm_shift,
                x=x,
                x_pixel=x_pixel,
                y=y,
                y_pixel=y_pixel,
                seen=seen,
                standard=images.take(image) if normed else -1,
                factor=images.take(2 * GROUP) if normed else -1,
                mask=images.take(seen_image) if layer.dropout > 0 else -1,
                number=layer.number,
                forward_i=at[0],
                forward_j=at[1],
                backward_i=at[2],
                backward_j=at[3],
            )
        )
        x, x_pixel = seen, y_pixel
    factors = np.array([(layer.slope, layer.pull, layer.dropout) for layer in layers], np.float64)
    tables = np.array(rows, np.int64), factors, np.concatenate(taps).ravel()
    return Plan(Network(*tables, images.end, params.end), rows, batch)
