"""Names that a user registers in this process, of each kind, and where in the source each was registered."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from fastplast.config.errors import ConfigError, shown
from fastplast.config.names import TAKES_STRENGTH

PACKAGES = {  # kind to the package whose `register` adds one; the kind is the field of ``Experiment`` that names it
    "method": "methods",
    "metric": "measuring",
    "problem": "problems",
    "optimizer": "engines.optimizers",
    "dataset": "data",
    "network": "networks",
}
FIELDS = {"method": "method", "metric": "metrics", "problem": "benchmark", "optimizer": "optimizer",
          "dataset": "dataset", "network": "network"}  # fmt: skip
OWN: dict[str, dict[str, str]] = {kind: {} for kind in PACKAGES}  # kind to name to ``study.py:12``


def add_own(kind: str, name: str, known: Collection[str]) -> None:
    """Notes a name that is registered, and the line that called the caller.

    Args:
        kind: of what is registered.
        name: that ``Experiment`` calls it.
        known: names of the package's own.

    Raises:
        ValueError: if the name is one of the package's.
    """
    if name in known:
        raise ValueError(f"name must be new: got {name!r}, which is one of fastplast's. Choose another name.")
    frame = sys._getframe(2)
    OWN[kind][name] = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def known_names(field: str, choices: Collection[str]) -> tuple[str, ...]:
    """What a field may name: the package's choices, and what was registered for it.

    Args:
        field: of ``Experiment``.
        choices: of the package.

    Returns:
        The names.
    """
    own = [name for kind, names in OWN.items() if FIELDS[kind] == field for name in names]
    own += TAKES_STRENGTH if field == FIELDS["method"] else ()
    return tuple(dict.fromkeys((*choices, *own)))


def own_of(values: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """What of a configuration was registered in this process, for ``config.json``.

    Args:
        values: the configuration.

    Returns:
        Kind to name to place; without kinds of which there is none.
    """
    found: dict[str, dict[str, str]] = {}
    for kind, name in _named(values):
        if name in OWN[kind]:
            found.setdefault(kind, {})[name] = OWN[kind][name]
    return found


def check_own(values: Mapping[str, Any]) -> None:
    """Says what to do about something of a stored configuration that this process does not know.

    Args:
        values: of ``config.json``.

    Raises:
        ConfigError: naming it, and where it was registered.
    """
    stored = values.get("own", {})
    for kind, name in _named(values):
        place = stored.get(kind, {}).get(name)
        known = TAKES_STRENGTH if kind == "method" else OWN[kind] if place is not None else (name,)
        if name not in known:
            text = shown(name)
            raise ConfigError(
                f"resume needs the {kind} {text[1:-1]} of the run: got none of that name. Call "
                f"fastplast.{PACKAGES[kind]}.register({text}, ...) first, from Python"
                f"{f', as {place} did' if place else ''}."
            )


def with_known_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """A stored configuration in which what only its author's process knows is another: progress is of anything.

    Args:
        values: of ``config.json``.

    Returns:
        Field to value.
    """
    stored = values.get("own", {})
    unknown = {kind for kind, names in stored.items() if not names.keys() <= OWN[kind].keys()}
    others = {"metric": [], "problem": "label_shuffle", "optimizer": "sgd", "dataset": "mnist", "network": "mlp"}
    found = dict(values) | {FIELDS[kind]: other for kind, other in others.items() if kind in unknown}
    if "problem" in unknown:
        found["test_examples"] = 0
    return found if found.get("method", "none") in TAKES_STRENGTH else found | {"method": "l2"}


def _named(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Kind and name of everything that a configuration names."""
    for kind, field in FIELDS.items():
        for one in (values, *(values.get("member_list") or ())):
            value = one.get(field)
            names = value if isinstance(value, (list, tuple)) else [value]
            yield from ((kind, name) for name in names if isinstance(name, str))
