"""Networks: what a member is."""

from fastplast.networks.builtin import Network
from fastplast.networks.layout import Layout, Slot
from fastplast.networks.module import ModuleFactory, ModuleNetwork
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
    "Preset",
    "Slot",
    "build_network",
    "register",
]
