"""What a run is of, beside its configuration: data, and a module and methods of the user's, which may change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastplast.config import METHOD_NAMES, ConfigError
from fastplast.methods import METHODS
from fastplast.networks import ModuleNetwork
from fastplast.networks.fixed import fixed_inputs
from fastplast.training.setup import Setup

_TOLERANCE = 1e-3  # of outputs, relative to the largest: far above rounding on another CPU


def identity_of(setup: Setup) -> dict[str, Any]:
    """What ``env.json`` holds of a run's data and network.

    Args:
        setup: of the run.

    Returns:
        SHA-256 of the data and, of a user's module, of its structure, and what it computes on fixed inputs; of methods
        of the user's own what their anchors are.
    """
    found: dict[str, Any] = {"data": setup.dataset.identity}
    network = setup.group.network
    if isinstance(network, ModuleNetwork):
        found |= {"network": network.structure(), "outputs": network.fixed_outputs()}
    if anchors := _anchors(setup):
        found["methods"] = anchors
    return found


def check_identity(setup: Setup, stored: Mapping[str, Any], run: object) -> None:
    """Refuses to go on with a run with other data or another network than it was started with.

    Args:
        setup: with which it would go on.
        stored: ``identity`` of the run; empty for one that was started before there was any, which is not checked.
        run: how to call it.

    Raises:
        ConfigError: naming what differs, as it was and as it is.
    """
    check_data(setup.dataset.identity, stored, run)
    anchors = _anchors(setup)
    for name, numbers in stored.get("methods", {}).items():
        if pair := _first_difference(anchors[name], numbers):
            raise ConfigError(
                f"method {name} must be the one that {run} was started with: got {pair[0]:.6g} of its anchor, not "
                f"{pair[1]:.6g}. Register the same method."
            )
    network = setup.group.network
    if "network" not in stored or not isinstance(network, ModuleNetwork):
        return
    structure, outputs = network.structure(), network.fixed_outputs()
    text = f"network must be the one that {run} was started with: got {network.name} with "
    if structure != stored["network"]:
        raise ConfigError(f"{text}structure {structure[:12]}, not {stored['network'][:12]}. Pass the same factory.")
    if pair := _first_difference(outputs, stored["outputs"]):
        raise ConfigError(f"{text}output {pair[0]:.6g} on fixed inputs, not {pair[1]:.6g}. Pass the same factory.")


def _anchors(setup: Setup) -> dict[str, list[float]]:
    """Of each method of the user's own: whether it is ranked, and numbers that follow from its anchor."""
    found: dict[str, list[float]] = {}
    if isinstance(setup.group.network, ModuleNetwork):  # whose initial weights a factory may draw anew
        return found
    for row, member in zip(setup.engine.pull.anchor, setup.group.members):
        method = METHODS[member.method]
        if member.method not in METHOD_NAMES and member.method not in found and method.anchor is not None:
            directions = fixed_inputs(4, len(row)).double()
            found[member.method] = [float(method.ranked), *(directions @ row.cpu().double()).tolist()]
    return found


def _first_difference(found: Sequence[float], stored: Sequence[float]) -> tuple[float, float] | None:
    """The first two numbers that differ by more than rounding."""
    most = _TOLERANCE * max(1e-6, *map(abs, found), *map(abs, stored))
    return next(((a, b) for a, b in zip(found, stored) if not abs(a - b) <= most), None)


def check_data(found: str, stored: Mapping[str, Any], run: object) -> None:
    """Refuses data that are not those of a run.

    Args:
        found: ``Dataset.identity`` of the data.
        stored: ``identity`` of the run; empty for one that was started before there was any.
        run: how to call it.

    Raises:
        ConfigError: naming both digests.
    """
    if stored.get("data", found) != found:
        raise ConfigError(
            f"data must be those that {run} was started with: got SHA-256 {found[:12]}, not {stored['data'][:12]}. "
            "Restore the data, or start another run with another --out."
        )
