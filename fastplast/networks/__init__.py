"""Networks: what a member is."""

from fastplast.networks.builtin import Network
from fastplast.networks.layout import Layout, Slot
from fastplast.networks.module import ModuleFactory, ModuleNetwork, module_name
from fastplast.networks.plain import PlainNetwork
from fastplast.networks.presets import NETWORKS, AnyNetwork, Modules, Preset, build_network, register
from fastplast.networks.spec import Conv, Dense, Layer

__all__ = [
    "NETWORKS",
    "AnyNetwork",
    "Conv",
    "Dense",
    "Layer",
    "Layout",
    "ModuleFactory",
    "ModuleNetwork",
    "Modules",
    "Network",
    "PlainNetwork",
    "Preset",
    "Slot",
    "build_network",
    "module_name",
    "register",
]
