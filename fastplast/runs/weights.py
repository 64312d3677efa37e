"""Weights of a run: what ``--keep-weights`` stores, and one member's as an ``nn.Module``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastplast.config import ConfigError, Experiment
from fastplast.runs.files import StoreError
from fastplast.runs.reading import read_json

if TYPE_CHECKING:
    from torch import Tensor, nn


def weights_path(run: Path, task: int, when: str) -> Path:
    """Where the weights of a moment lie.

    Args:
        run: its directory.
        task: number of the task, from 0.
        when: ``"start"``, ``"end"``, or ``"epoch-<number>"``.

    Returns:
        The file.
    """
    return run / "weights" / f"task-{task:05d}-{when}.safetensors"


def moment(when: str, epoch: int | None) -> str:
    """What files call a moment of a task: its start, its end, or the end of an epoch, from 0."""
    return when if epoch is None else f"epoch-{epoch:05d}"


def read_weights(run: Path, task: int, when: str) -> dict[str, Tensor]:
    """Weights of all members.

    Args:
        run: its directory.
        task: number of the task, from 0.
        when: as of ``weights_path``.

    Returns:
        Name of the parameter, such as ``fc1.weight``, to `[M, ...]`.

    Raises:
        StoreError: if they were not stored; the text lists what was.
    """
    from safetensors.torch import load_file

    path = weights_path(run, task, when)
    if not path.exists():
        there = ", ".join(p.stem for p in sorted(path.parent.glob("task-*"))[:8]) or "none"
        raise StoreError(
            f"{path} is not there. Weights of this run: {there}. They are stored with --keep-weights tasks, or all for "
            "every epoch too."
        )
    return load_file(path)


def module_of(
    run: Path,
    config: dict[str, Any],
    note: dict[str, Any],
    member: int,
    moment: tuple[int, str] | None,
    network: Callable[[], nn.Module] | None,
) -> nn.Module:
    """One member as a module.

    Args:
        run: its directory.
        config: of the run.
        note: of its data.
        member: number.
        moment: task and when; the last checkpoint if None.
        network: the factory that the run was started with, if it was.

    Returns:
        The module, in evaluation mode.

    Raises:
        ConfigError: if the run was made with a module and none is given, or there is no such member.
        StoreError: if the run does not say the shape of its inputs, or the weights are not there.
    """
    from safetensors.torch import load_file

    from fastplast.networks import ModuleNetwork, PlainNetwork, build_network

    if "shape" not in note:
        raise StoreError(f"{run} does not say the shape of its inputs: an earlier version wrote it. Train it anew.")
    e = Experiment.from_dict(config).resolved()
    if not 0 <= member < (count := len(e.members())):
        raise ConfigError(f"member must be in 0..{count - 1}: got {member}.")
    if str(e.network).startswith("module:") and network is None:
        raise ConfigError(f"module needs the network of the run: got none for {e.network}. Pass network=, its factory.")
    shape, classes = tuple(note["shape"]), note["classes"]
    net = build_network(e, shape, classes) if network is None else ModuleNetwork(network, shape, classes)
    if moment is None:
        state = load_file(run / "checkpoint" / read_json(run / "checkpoint" / "checkpoint.json")["file"])
        parameters = net.layout.views(state["state.params"][member])
    else:
        parameters = {name: values[member] for name, values in read_weights(run, *moment).items()}
    if not isinstance(net, ModuleNetwork):
        return PlainNetwork(net, parameters).eval()
    module = net.new_module(parameters)
    return module.eval()
