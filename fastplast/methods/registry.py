"""Methods by name, and those of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fastplast.config import METHOD_NAMES, METHOD_OPTIONS, METHOD_SUMMARIES, TAKES_STRENGTH, Option, add_own
from fastplast.methods.builtin import l2, none, regenerative
from fastplast.methods.churn import c_chain
from fastplast.methods.clipping import clip
from fastplast.methods.continual_backprop import cbp
from fastplast.methods.dash import dash
from fastplast.methods.dormant import redo, regrama
from fastplast.methods.fire import fire
from fastplast.methods.full_reset import full_reset
from fastplast.methods.hare_tortoise import hare_tortoise
from fastplast.methods.method import Method
from fastplast.methods.nap import nap
from fastplast.methods.noise import noise
from fastplast.methods.parseval import parseval
from fastplast.methods.self_normalized import snr
from fastplast.methods.shrink_perturb import shrink_perturb
from fastplast.methods.spectral import spectral
from fastplast.methods.upgd import upgd
from fastplast.methods.wasserstein import wasserstein

_BUILT_IN = {
    "none": none,
    "l2": l2,
    "regenerative": regenerative,
    "wasserstein": wasserstein,
    "cbp": cbp,
    "redo": redo,
    "snr": snr,
    "regrama": regrama,
    "shrink_perturb": shrink_perturb,
    "clip": clip,
    "upgd": upgd,
    "hare_tortoise": hare_tortoise,
    "noise": noise,
    "full_reset": full_reset,
    "spectral": spectral,
    "parseval": parseval,
    "fire": fire,
    "dash": dash,
    "nap": nap,
    "c_chain": c_chain,
}
METHODS: dict[str, Method] = {
    name: replace(_BUILT_IN[name], summary=summary, reference=reference)
    for name, (summary, reference) in METHOD_SUMMARIES.items()
}


def register(name: str, method: Method, options: Mapping[str, Option] | None = None) -> None:
    """Makes a method of one's own known to this process: to train with it, and to resume what was trained with it.

    Args:
        name: what ``Experiment(method=...)`` calls it.
        method: its anchor, or its hooks.
        options: its hyperparameters, without the method's name: ``rate`` of ``mine`` is the field ``mine_rate``.

    Raises:
        ValueError: if the name is one of the package's.

    Example:
        >>> halfway = Method(lambda init, layout: init / 2, False, "pulled to half the initial values", "this example")
        >>> register("halfway", halfway)  # doctest: +SKIP
    """
    add_own("method", name, METHOD_NAMES)
    METHODS[name] = method
    METHOD_SUMMARIES[name] = (method.summary, method.reference)
    METHOD_OPTIONS.pop(name, None)
    if options:
        METHOD_OPTIONS[name] = dict(options)
    TAKES_STRENGTH[name] = method.anchor is not None or method.takes_strength
