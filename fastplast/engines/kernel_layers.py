"""Networks as the kernels know them, and groups that they do not."""

from __future__ import annotations

from fastplast_kernels.train_step.layers import ConvLayer, DenseLayer, Layer

from fastplast.config import VMAP_ACTIVATIONS
from fastplast.engines.base import Group
from fastplast.engines.optimizers import OPTIMIZERS
from fastplast.networks import Conv, ModuleNetwork, Network


def without_kernels(group: Group) -> str | None:
    """What no kernel serves, on a CPU or on a GPU.

    Args:
        group: what to train.

    Returns:
        The reason why it can't be trained by kernels, or None.
    """
    if isinstance(group.network, ModuleNetwork):
        return f"it has no kernels for the module {group.network.name.removeprefix('module:')}"
    if not OPTIMIZERS[group.optimizer].has_kernels:
        return f"it has no kernels for --optimizer {group.optimizer}"
    if group.network.activation in VMAP_ACTIVATIONS:
        return f"it has no kernels for --activation {group.network.activation}"
    if group.loss != "cross_entropy":
        return f"its kernels train with cross-entropy, not with {group.loss}"
    return None


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
