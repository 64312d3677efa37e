"""Methods against plasticity loss."""

from fastplast.methods.method import Method
from fastplast.methods.pull import Pull, build_pull, strength_of
from fastplast.methods.registry import METHODS, register

__all__ = ["METHODS", "Method", "Pull", "build_pull", "register", "strength_of"]
