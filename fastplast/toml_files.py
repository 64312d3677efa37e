"""TOML files: grids, and configurations."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fastplast.bounded import read_bytes, reason
from fastplast.config import ConfigError
from fastplast.config.numbers import spelling_advice

_MOST_TEXT = 1 << 24  # bytes; a million members take some kilobytes


def read_toml(path: Path, name: str) -> dict[str, Any]:
    """Reads a TOML file.

    Args:
        path: the file.
        name: the flag that names it, for the error.

    Returns:
        Its values.

    Raises:
        ConfigError: if it cannot be read, or is no TOML.
    """
    try:
        import tomllib
    except ImportError:  # Python 3.10
        import tomli as tomllib  # pyright: ignore[reportMissingImports]
    try:
        text = read_bytes(path, _MOST_TEXT).decode()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name} must be a readable file: got {path} ({error}).") from None
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        place = re.search(r"at line (\d+)", str(error))
        advice = spelling_advice(text.split("\n")[int(place[1]) - 1].partition("=")[2]) if place else ""
        raise ConfigError(f"{path}: {name} must be TOML: {reason(error)}.{advice}") from None
