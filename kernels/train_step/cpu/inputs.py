"""A minibatch: its examples gathered, which of their pixels are not zero, and rows of examples as images of groups."""

from __future__ import annotations

import numpy as np
from fastplast_kernels.compilation import called, merged
from fastplast_kernels.train_step.cpu.simd import LANES, append_nonzero, pointer, prefetch
from fastplast_kernels.train_step.cpu.tiles import GROUP, transpose_matrix

_LINE = 64  # bytes of a cache line
WORD = 64  # examples of a word of bits


@called
def stride(width):
    """Floats from one example's row to the next, which begins with a cache line."""
    return (width + LANES - 1) // LANES * LANES


@called
def groups(batch):
    """Groups that hold so many examples."""
    return (batch + GROUP - 1) // GROUP


@called
def gather(examples, member, positions, scratch):
    """Copies the inputs and labels of some examples; returns how many, as -1 ends them."""
    width = examples.scale.shape[0]
    permuted = examples.pixels.shape[0] > 0
    for b in range(positions.shape[0]):
        if positions[b] < 0:
            return b
        row = examples.rows[member, positions[b]]
        scratch.labels[b] = examples.labels[member, positions[b]]
        line = scratch.line if permuted else scratch.inputs[b * stride(width) : b * stride(width) + width]
        if examples.images.shape[0] > 0:
            for i in range(width):
                line[i] = np.float32(examples.images[row, i]) * examples.scale[i] + examples.shift[i]
        else:
            for i in range(width):
                line[i] = examples.float_images[row, i] * examples.scale[i] + examples.shift[i]
        if permuted:
            for i in range(width):
                scratch.inputs[b * stride(width) + i] = line[examples.pixels[member, i]]
    return positions.shape[0]


@merged
def fetch_ahead(examples, member, positions):
    """Asks the caches for the images of some examples."""
    width = examples.scale.shape[0]
    for b in range(positions.shape[0]):
        if positions[b] >= 0:
            row = examples.rows[member, positions[b]]
            if examples.images.shape[0] > 0:
                for i in range(0, width, _LINE):
                    prefetch(pointer(examples.images), row * width + i)
            else:
                for i in range(0, width, _LINE // 4):
                    prefetch(pointer(examples.float_images), row * width + i)


@called
def find_nonzero(width, batch, block, scratch):
    """Lists the pixels of each example that are not zero, and sets the bits of the examples that have a pixel.

    Args:
        width: pixels of an example; beyond, up to its `stride`, are zeros.
        batch: number of examples.
        block: pixels of a block, a multiple of `LANES`.
        scratch: whose tables are filled.
    """
    values, pixels, table = pointer(scratch.inputs), pointer(scratch.pixels), pointer(scratch.table)
    room = scratch.pixels.shape[1]
    for word in range((batch + WORD - 1) // WORD):
        scratch.examples[word, :] = 0
    for b in range(batch):
        word, bit, count, start = b // WORD, np.int64(1) << (b % WORD), np.int64(0), b * room
        for first in range(0, width, block):
            scratch.ends[b, first // block] = count
            for i in range(first, min(first + block, width), LANES):
                count = append_nonzero(values, b * stride(width) + i, table, pixels, start + count, i) - start
        scratch.ends[b, (width + block - 1) // block] = count
        for n in range(count):
            scratch.examples[word, scratch.pixels[b, n]] |= bit


@merged
def fill_up(values, at, length, batch):
    """Fills a group of examples with copies of the first, so that all are finite if that one is."""
    for b in range(batch, groups(batch) * GROUP):
        for k in range(length):
            values[at + b * length + k] = values[at + k]


@called
def interleave(flat, at, length, channels, area, images, place, pixel):
    """Makes a group of images out of `GROUP` examples `[channels * area]`.

    Args:
        flat: where the examples are.
        at: index of the first.
        length: floats from one to the next.
        channels: of an image.
        area: pixels of an image.
        images: where the result goes.
        place: index of the group's first pixel.
        pixel: floats from one pixel to the next.
    """
    if area == 1:
        transpose_matrix(flat, at, length, GROUP, channels, images, place, GROUP)
        return
    for c in range(channels):
        transpose_matrix(flat, at + c * area, length, GROUP, area, images, place + c * GROUP, pixel)
