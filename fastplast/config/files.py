"""Configurations in files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fastplast.bounded import read_bytes, reason
from fastplast.config.errors import ConfigError
from fastplast.config.numbers import spelling_advice

_MOST_TEXT = 1 << 28  # bytes of a file of settings


def load_config(path: str | Path) -> dict[str, Any]:
    """Reads a ``--config`` file: JSON, for example the ``config.json`` of a run.

    Args:
        path: the file.

    Returns:
        Field to value, unchecked.

    Raises:
        ConfigError: if the file is missing, is not JSON, or is not an object.
    """
    try:
        content = read_bytes(Path(path).expanduser(), _MOST_TEXT).decode()
        values = json.loads(content, object_pairs_hook=_refuse_repeated)
    except OSError as error:
        raise ConfigError(f"--config must be a readable file: got {path} ({error.strerror or error}).") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--config must be JSON: got {path} ({reason(error)}).{_advice_on(error)}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"--config must hold a JSON object: got {type(values).__name__} in {path}.")
    return values


def _advice_on(error: Exception) -> str:
    if not isinstance(error, json.JSONDecodeError):
        return ""
    return spelling_advice(error.doc.split("\n")[error.lineno - 1].partition(":")[2])


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Of a key that occurs twice, JSON readers take the last, which nobody sees.
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} occurs twice")
    return dict(pairs)
