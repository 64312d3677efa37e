"""Networks as the kernels know them."""

from __future__ import annotations

from fastplast_kernels.train_step.layers import ConvLayer, DenseLayer, Layer

from fastplast.networks import Conv, Network


def kernel_layers(network: Network, reduction: str) -> tuple[Layer, ...]:
    """A network in the words of the kernels: where each layer's parameters lie, its sizes and activation.

    Args:
        network: a built-in network.
        reduction: of the pull, ``mean`` or ``sum``.

    Returns:
        One entry per layer.
    """
    layers: list[Layer] = []
    for number, layer in enumerate(network.layers):
        weight, bias = network.layout[f"{layer.name}.weight"], network.layout[f"{layer.name}.bias"]
        place = {"weight": weight.offset, "bias": bias.offset}
        if layer.norm:
            place |= {f"norm_{part}": network.layout[f"{layer.name}.norm_{part}"].offset for part in ("scale", "shift")}
        if network.dropout and layer.activated:
            place |= {"dropout": network.dropout, "number": number}
        rule = {
            "activation": network.activation if layer.activated else "identity",
            "slope": network.slope,
            "pull": 1.0 / weight.count if reduction == "mean" else 1.0,
        }
        if isinstance(layer, Conv):
            names = ("outputs", "height", "width", "kernel", "stride", "padding", "pool")
            sizes = {name: getattr(layer, name) for name in names}
            layers.append(ConvLayer(channels=layer.in_channels, **sizes, **place, **rule))
        else:
            layers.append(DenseLayer(inputs=layer.inputs, outputs=layer.outputs, **place, **rule))
    return tuple(layers)
