"""What an option needs to have an effect: one that has none in a configuration is refused before anything runs.

Stored configurations are not checked: they were run, whatever in them had no effect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fastplast.config.errors import ConfigError, flag
from fastplast.config.names import METHOD_NAMES, PULLS, is_path
from fastplast.config.own import OWN
from fastplast.config.rules import holds_out


class Need(NamedTuple):
    """What an option needs.

    Attributes:
        words: in words.
        of: the field that says it.
        holds: the test of an experiment.
    """

    words: str
    of: str
    holds: Callable[[Any], bool]


def _methods(e: Any) -> set[str]:
    return {member.method for member in e.member_list} if e.member_list is not None else {e.method}


def _pulls(e: Any) -> bool:
    return any(method != "none" and (method in PULLS or method not in METHOD_NAMES) for method in _methods(e))


_ADAM = Need("--optimizer adam or adamw", "optimizer", lambda e: e.optimizer != "sgd")
_BUILTIN = Need("a built-in --network", "network", lambda e: not str(e.network).startswith("module:"))
_SRANK = Need("--srank start or both", "srank", lambda e: e.srank != "off")
NEEDS: dict[str, Need] = {
    "class_order": Need("a benchmark of class pairs", "benchmark", lambda e: e.change == "class_pairs"),
    "label_shuffle": Need(
        "a benchmark that shuffles labels", "benchmark", lambda e: e.change in ("label_shuffle", "label_drift")
    ),
    "new_classes": Need("a benchmark that adds classes", "benchmark", lambda e: _is_or_own(e, "class_incremental")),
    "drift_tasks": Need("a benchmark whose labels drift", "benchmark", lambda e: _is_or_own(e, "label_drift")),
    "change_first_task": Need(
        "a benchmark that shuffles labels or permutes pixels",
        "benchmark",
        lambda e: holds_out(e.change) or e.change in OWN["problem"],
    ),
    "data_dir": Need("a --dataset that is known by name", "dataset", lambda e: not is_path(e.dataset)),
    "reduction": Need(f"--method {', '.join(PULLS[1:-1])} or {PULLS[-1]}", "method", _pulls),
    "leaky_slope": Need("--activation leaky_relu", "activation", lambda e: e.activation == "leaky_relu"),
    **dict.fromkeys(("widths", "activation", "layer_norm", "dropout", "init"), _BUILTIN),
    "beta1": _ADAM,
    "beta2": _ADAM,
    "epsilon": _ADAM,
    "weight_decay_mode": Need("a --weight-decay", "weight_decay", lambda e: bool(_decays(e))),
    "optimizer_reset": Need(
        "--optimizer adam or adamw, or the moments of --momentum",
        "optimizer",
        lambda e: e.optimizer != "sgd" or (e.momentum > 0 and e.optimizer_reset == "moments"),
    ),
    "srank_method": _SRANK,
    "srank_every": _SRANK,
}


def _is_or_own(e: Any, change: str) -> bool:
    """Whether tasks change so, or in a way of the user's own, which may read any option."""
    return e.change == change or e.change in OWN["problem"]


def _decays(e: Any) -> bool:
    return bool(e.weight_decay or any(member.weight_decay for member in e.member_list or ()))


def check_effects(experiment: Any) -> None:
    """Refuses an option other than its default that changes nothing.

    Args:
        experiment: an ``Experiment``.

    Raises:
        ConfigError: naming the option, and what it needs.
    """
    e = experiment
    for name, need in NEEDS.items():
        value = getattr(e, name)
        if value != e.__dataclass_fields__[name].default and not need.holds(e):
            words = f"{flag(need.of)} {', '.join(sorted(_methods(e))) if need.of == 'method' else getattr(e, need.of)}"
            raise ConfigError(
                f"{flag(name)} belongs to {need.words}, and does nothing otherwise: got {value} with {words}. Drop it.",
                name,
                need.of,
            )
