"""What a run is of, beside its configuration: data and a module of the user's, which files and code may change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastplast.config import ConfigError
from fastplast.networks import ModuleNetwork
from fastplast.training.setup import Setup

_TOLERANCE = 1e-3  # of outputs, relative to the largest: far above rounding on another CPU


def identity_of(setup: Setup) -> dict[str, Any]:
    """What ``env.json`` holds of a run's data and network.

    Args:
        setup: of the run.

    Returns:
        SHA-256 of the data and, of a user's module, of its structure, and what it computes on fixed inputs.
    """
    found: dict[str, Any] = {"data": setup.dataset.identity}
    network = setup.group.network
    if isinstance(network, ModuleNetwork):
        found |= {"network": network.structure(), "outputs": network.fixed_outputs()}
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
    network = setup.group.network
    if "network" not in stored or not isinstance(network, ModuleNetwork):
        return
    structure, outputs = network.structure(), network.fixed_outputs()
    text = f"network must be the one that {run} was started with: got {network.name} with "
    if structure != stored["network"]:
        raise ConfigError(f"{text}structure {structure[:12]}, not {stored['network'][:12]}. Pass the same factory.")
    most = _TOLERANCE * max(1e-6, *map(abs, outputs), *map(abs, stored["outputs"]))
    for found, was in zip(outputs, stored["outputs"]):
        if not abs(found - was) <= most:
            raise ConfigError(f"{text}output {found:.6g} on fixed inputs, not {was:.6g}. Pass the same factory.")


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
