"""Methods by name, and those of the user's own."""

from __future__ import annotations

from fastplast.config import METHOD_NAMES, TAKES_STRENGTH
from fastplast.methods.builtin import l2, none, regenerative
from fastplast.methods.method import Method
from fastplast.methods.wasserstein import wasserstein

METHODS: dict[str, Method] = {
    "none": none,
    "l2": l2,
    "regenerative": regenerative,
    "wasserstein": wasserstein,
}


def register(name: str, method: Method) -> None:
    """Makes a method of one's own known to this process: to train with it, and to resume what was trained with it.

    Args:
        name: what ``Experiment(method=...)`` calls it.
        method: how its anchor is made.

    Raises:
        ValueError: if the name is one of the package's.

    Example:
        >>> halfway = Method(lambda init, layout: init / 2, False, "pulled to half the initial values", "this example")
        >>> register("halfway", halfway)  # doctest: +SKIP
    """
    if name in METHOD_NAMES:
        raise ValueError(f"name must be new: got {name!r}, which is one of fastplast's. Choose another name.")
    METHODS[name] = method
    TAKES_STRENGTH[name] = method.anchor is not None
