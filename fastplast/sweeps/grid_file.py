"""Grid files: TOML or YAML to fields and their values, each with the line it stands on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from fastplast.config import ConfigError


class Section(NamedTuple):
    """The fields of one part of a grid, as written.

    Attributes:
        values: field, underscores for hyphens, to what stands there.
        places: field to where that is, for example ``grid.toml, line 3``.
        place: where the section begins.
    """

    values: dict[str, Any]
    places: dict[str, str]
    place: str


def read_grid_file(path: str | Path) -> tuple[Section, list[Section]]:
    """Reads a grid file.

    Fields at the top are shared by all crosses; each ``[[cross]]`` of TOML, or item of the list ``cross`` of YAML, is
    one cross. A file without crosses is one cross.

    Args:
        path: the file; its ending says its language.

    Returns:
        What is shared, and the crosses.

    Raises:
        ConfigError: if the file cannot be read, or is no such file; with its line where there is one.
    """
    path = Path(path)
    readers = {".toml": _read_toml, ".yaml": _read_yaml, ".yml": _read_yaml}
    if path.suffix not in readers:
        raise ConfigError(f"--grid must end in {', '.join(readers)}: got {path}.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--grid must be a readable file: got {path} ({error}).") from None
    values, lines = readers[path.suffix](text, path)
    crosses = values.pop("cross", [])
    if not isinstance(crosses, list) or not all(isinstance(cross, dict) for cross in crosses):
        raise ConfigError(f"{path}, line {lines.get(('cross',), 1)}: cross must be a list of crosses: got {crosses!r}.")
    shared = _section(values, path, lines, ())
    return shared, [_section(cross, path, lines, ("cross", i)) for i, cross in enumerate(crosses)]


def _section(values: dict[str, Any], path: Path, lines: dict[tuple, int], prefix: tuple) -> Section:
    fields, places = {}, {}
    for key, value in values.items():
        place = f"{path}, line {lines.get((*prefix, key), lines.get(prefix, 1))}"
        name = str(key).replace("-", "_")
        if name in fields:
            raise ConfigError(f"{place}: {name} must be given once: got it twice, with a hyphen and an underscore.")
        fields[name], places[name] = value, place
    return Section(fields, places, f"{path}, line {lines.get(prefix, 1)}")


def _read_toml(text: str, path: Path) -> tuple[dict[str, Any], dict[tuple, int]]:
    try:
        import tomllib
    except ImportError:  # Python 3.10
        import tomli as tomllib  # pyright: ignore[reportMissingImports]
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: --grid must be TOML: {error}.") from None
    return values, _toml_lines(text.splitlines())


def _toml_lines(text: Iterable[str]) -> dict[tuple, int]:
    """Where keys stand. The parser does not tell; a grid has one level of tables, so that a line's start does."""
    lines: dict[tuple, int] = {}
    prefix: tuple = ()
    for number, line in enumerate(text, 1):
        if re.match(r"\s*\[\[\s*cross\s*\]\]", line):
            prefix = ("cross", prefix[1] + 1 if prefix else 0)
            lines[prefix] = number
            lines.setdefault(("cross",), number)
        elif found := re.match(r"""\s*["']?([\w-]+)["']?\s*=""", line):
            lines.setdefault((*prefix, found[1]), number)
        elif found := re.match(r"\s*\[\s*([\w-]+)\s*\]\s*(#.*)?$", line):
            lines.setdefault((found[1],), number)
    return lines


def _read_yaml(text: str, path: Path) -> tuple[dict[str, Any], dict[tuple, int]]:
    try:
        import yaml
    except ImportError as error:
        raise ConfigError(
            f"--grid {path} needs the package PyYAML, which is not installed. `pip install pyyaml`, or write TOML."
        ) from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise ConfigError(f"{place}: --grid must be YAML: {getattr(error, 'problem', error)}.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}, line 1: --grid must hold fields: got {type(values).__name__}.")
    lines: dict[tuple, int] = {}
    _yaml_lines(root, (), lines, path)
    return {key: _yaml_numbers(value) for key, value in values.items()}, lines


def _yaml_numbers(value: Any) -> Any:
    """YAML 1.1 takes 1e-3 for a text; everyone means the number."""
    if isinstance(value, list):
        return [_yaml_numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: _yaml_numbers(item) for key, item in value.items()}
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value


def _yaml_lines(node: Any, prefix: tuple, lines: dict[tuple, int], path: Path) -> None:
    if isinstance(node.value, list) and node.id == "mapping":
        for key, value in node.value:
            place = (*prefix, key.value)
            if place in lines:
                raise ConfigError(f"{path}, line {key.start_mark.line + 1}: {key.value} must be given once.")
            lines[place] = key.start_mark.line + 1
            if key.value == "cross" and not prefix:
                _yaml_lines(value, place, lines, path)
    elif node.id == "sequence" and prefix == ("cross",):
        for i, item in enumerate(node.value):
            lines[(*prefix, i)] = item.start_mark.line + 1
            _yaml_lines(item, (*prefix, i), lines, path)
