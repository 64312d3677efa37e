"""Methods against plasticity loss."""

from fastplast.methods.method import KernelHook, Method, Seen, Users, Watch
from fastplast.methods.pull import Pull, build_pull, shown_strength, strength_of
from fastplast.methods.registry import METHODS, register
from fastplast.methods.resets import Arenas, Choice, Reset, own_coefficients, reset_units
from fastplast.methods.units import count_units, hidden_layers

__all__ = [
    "METHODS",
    "Arenas",
    "Choice",
    "KernelHook",
    "Method",
    "Pull",
    "Reset",
    "Seen",
    "Users",
    "Watch",
    "build_pull",
    "count_units",
    "hidden_layers",
    "own_coefficients",
    "register",
    "reset_units",
    "shown_strength",
    "strength_of",
]
