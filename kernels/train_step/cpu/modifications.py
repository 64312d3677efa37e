"""What a layer may do beside its product and its activation: layer normalisation, max pooling, dropout; there and back.

All work on groups of images.
"""

from __future__ import annotations

import numpy as np
from fastplast_kernels.compilation import called, merged
from fastplast_kernels.dropout.cpu import fill_mask
from fastplast_kernels.train_step.cpu.inputs import interleave
from fastplast_kernels.train_step.cpu.records import area_above
from fastplast_kernels.train_step.cpu.simd import LANES, fma, load, maximum, splat, sqrt, store, where_positive
from fastplast_kernels.train_step.cpu.tiles import GROUP, clear
from fastplast_kernels.train_step.cpu.tuples import load_rows, sum_rows
from fastplast_kernels.train_step.layers import NORM_EPSILON


@called
def _scaled_total(sums, at, outputs, params, scale):
    """Sum over the channels times their scales, or 1 where there is none, for each example.

    As if in twice the precision (Ogita, Rump, Oishi 2005): what is left of few channels is small beside the terms.
    """
    total, rest = splat(0.0), splat(0.0)
    for o in range(outputs):
        factor = splat(params[scale + o]) if scale >= 0 else splat(1.0)
        x = load(sums, at + o * GROUP)
        product = factor * x
        following = total + product
        part = following - total
        lost = (total - (following - part)) + (product - part)
        rest = rest + (lost + fma(factor, x, splat(0.0) - product))
        total = following
    return total + rest


@called
def standardise(layer, params, images, group, sums):
    """Layer normalisation over channels and pixels: subtracts the mean, and finds r = 1 / sqrt(variance + epsilon).

    Sums are over the pixels of a channel, then over the channels. What rounding has left of the mean is found, too.

    Args:
        layer: the layer.
        params: the parameters.
        images: all images, of which the outputs at `layer.standard` become z - mean(z).
        group: index of the group of examples in them.
        sums: scratch `[2 * O * GROUP]`.
    """
    length, start = layer.outputs * GROUP, group + layer.standard
    area = layer.out_height * layer.out_width
    count, end, none = splat(layer.outputs * area), start + area * layer.y_pixel, np.int64(-1)
    clear(sums, 0, length)
    for at in range(start, end, layer.y_pixel):
        for k in range(0, length, LANES):
            store(sums, k, load(sums, k) + load(images, at + k))
    mean = _scaled_total(sums, 0, layer.outputs, params, none) / count
    clear(sums, 0, 2 * length)
    for at in range(start, end, layer.y_pixel):
        for k in range(0, length, LANES):
            centred = load(images, at + k) - mean
            store(images, at + k, centred)
            store(sums, k, load(sums, k) + centred)
            store(sums, length + k, fma(centred, centred, load(sums, length + k)))
    rest = _scaled_total(sums, 0, layer.outputs, params, none) / count
    variance = _scaled_total(sums, length, layer.outputs, params, none) / count - rest * rest + splat(NORM_EPSILON)
    r = splat(1.0) / sqrt(variance)
    product = variance * r  # a step of Newton's, as two roundings would be one too many
    excess = fma(product, r, splat(-1.0)) + fma(variance, r, splat(0.0) - product) * r
    store(images, group + layer.factor, fma(splat(-0.5) * excess, r, r))
    store(images, group + layer.factor + GROUP, rest)


@merged
def standard_row(layer, i, params, images, group, row):
    """Row i of u = (z - mean(z)) r, in place of z - mean(z), and the row of scale * u + shift."""
    line = layer.out_width * layer.y_pixel
    start, r = group + layer.standard + i * line, load(images, group + layer.factor)
    rest = load(images, group + layer.factor + GROUP)
    for p in range(0, line, layer.y_pixel):
        for o in range(layer.outputs):
            k = p + o * GROUP
            u = (load(images, start + k) - rest) * r
            store(images, start + k, u)
            store(row, k, fma(splat(params[layer.scale + o]), u, splat(params[layer.shift + o])))


@called
def add_sums(sums, at, outputs, gradient, to):
    """Adds to each output's number the sum over the lanes of its vector, `[outputs rounded up, GROUP]`."""
    for o in range(0, outputs, LANES):
        total = sum_rows(load_rows(sums, at + o * GROUP, GROUP, LANES))
        store(gradient, to + o, load(gradient, to + o) + total)


@called
def sum_pixels(layer, images, at, sums):
    """Sums of the pixels of a group, `[O * GROUP]`, with zeros up to whole vectors of outputs."""
    length = layer.outputs * GROUP
    clear(sums, 0, layer.row * GROUP)
    for pixel in range(at, at + layer.out_height * layer.out_width * layer.y_pixel, layer.y_pixel):
        for k in range(0, length, LANES):
            store(sums, k, load(sums, k) + load(images, pixel + k))


@merged
def standardise_backward(layer, params, images, group, sums, gradient):
    """The gradient through the normalisation, D = r (G - mean(G) - u mean(G u)) with G = d * scale, in its place.

    Args:
        layer: the layer.
        params: the parameters.
        images: all images, where the layer's output has made place for its gradient d.
        group: index of the group of examples in them.
        sums: scratch, twice `[outputs rounded up, GROUP]`.
        gradient: of bias, shift and scale, `[outputs rounded up]` each; the group's parts of the last two are added.
    """
    length, start, apart = layer.outputs * GROUP, group + layer.y, layer.standard - layer.y
    area, product = layer.out_height * layer.out_width, layer.row * GROUP
    count, end = splat(layer.outputs * area), start + area * layer.y_pixel
    sum_pixels(layer, images, start, sums)
    clear(sums, product, product)
    for at in range(start, end, layer.y_pixel):
        for k in range(0, length, LANES):
            d = load(images, at + k)
            store(sums, product + k, fma(d, load(images, at + apart + k), load(sums, product + k)))
    add_sums(sums, 0, layer.outputs, gradient, layer.row)
    add_sums(sums, product, layer.outputs, gradient, 2 * layer.row)
    mean = _scaled_total(sums, 0, layer.outputs, params, layer.scale) / count
    slope = _scaled_total(sums, product, layer.outputs, params, layer.scale) / count
    r = load(images, group + layer.factor)
    for at in range(start, end, layer.y_pixel):
        for o in range(layer.outputs):
            k = at + o * GROUP
            g = splat(params[layer.scale + o]) * load(images, k)
            store(images, k, r * (g - mean - load(images, k + apart) * slope))


@merged
def times_row(row, start, images, mask, length):
    """Multiplies a row by a mask that lies in the images."""
    for k in range(0, length, LANES):
        store(row, start + k, load(row, start + k) * load(images, mask + k))


@merged
def drop(layer, rate, stream, first, images, group, flat):
    """Makes the mask of a group of examples, and what the layer above sees.

    Args:
        layer: the layer.
        rate: of dropout.
        stream: of the member's masks.
        first: number of the group's first example in the minibatch.
        images: all images.
        group: index of the group of examples in them.
        flat: scratch for the masks of the group as `fill_mask` writes them.
    """
    area, mask = area_above(layer), group + layer.mask
    width = layer.above * area
    fill_mask(stream, layer.number, rate, flat, 0, first * width, GROUP * width)
    interleave(flat, 0, width, layer.above, area, images, mask, layer.y_pixel)
    before = layer.seen if layer.pool > 1 else layer.y
    for k in range(0, area * layer.y_pixel, LANES):
        store(images, group + layer.seen + k, load(images, group + before + k) * load(images, mask + k))


@called
def largest_of_window(images, at, line, pixel, pool):
    """Of the pixels of a window, for each example of a channel."""
    best = load(images, at)
    for i in range(pool):
        for j in range(pool):
            best = maximum(best, load(images, at + i * line + j * pixel))
    return best


@called
def max_pool(layer, images, group):
    """Pools the layer's output; rows and columns that fill no window are left out."""
    line, length, to = layer.out_width * layer.y_pixel, layer.above * GROUP, group + layer.seen
    for i in range(layer.out_height // layer.pool):
        for j in range(layer.out_width // layer.pool):
            at = group + layer.y + layer.pool * (i * line + j * layer.y_pixel)
            for k in range(0, length, LANES):
                store(images, to + k, largest_of_window(images, at + k, line, layer.y_pixel, layer.pool))
            to += layer.y_pixel


@merged
def unpool_row(layer, i, gradients, at, images, group, lines):
    """Gives the gradient of a row of pooled pixels to the largest pixel, the first among equals, of each window.

    Args:
        layer: the layer.
        i: the row of pooled pixels.
        gradients: flat array.
        at: index of the row's gradients.
        images: all images, of which the layer's output is read.
        group: index of the group of examples in them.
        lines: the result, as many rows of the output as a window has.
    """
    line, length, zero = layer.out_width * layer.y_pixel, layer.above * GROUP, splat(0.0)
    clear(lines, 0, layer.pool * line)
    for j in range(layer.out_width // layer.pool):
        window = layer.pool * j * layer.y_pixel
        y = group + layer.y + layer.pool * i * line + window
        for k in range(0, length, LANES):
            best = largest_of_window(images, y + k, line, layer.y_pixel, layer.pool)
            g = load(gradients, at + j * layer.y_pixel + k)
            for a in range(layer.pool):
                for b in range(layer.pool):
                    pixel = a * line + b * layer.y_pixel + k
                    below = best - load(images, y + pixel)
                    store(lines, window + pixel, where_positive(below, zero, g))
                    g = where_positive(below, g, zero)


@merged
def clear_unpooled(layer, images, group):
    """The gradient of the rows of output that fill no window."""
    line, rows = layer.out_width * layer.y_pixel, layer.out_height // layer.pool * layer.pool
    clear(images, group + layer.y + rows * line, (layer.out_height - rows) * line)
