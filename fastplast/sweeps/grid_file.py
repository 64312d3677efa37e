"""Grid files: TOML to fields and their values, each with the line it stands on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from fastplast.config import ConfigError
from fastplast.config.errors import shown
from fastplast.toml_files import read_toml


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

    Fields at the top are shared by all crosses; each ``[[cross]]`` is one cross. A file without crosses is one cross.

    Args:
        path: the file.

    Returns:
        What is shared, and the crosses.

    Raises:
        ConfigError: if the file cannot be read, or is no such file; with its line where there is one.
    """
    path = Path(path)
    if path.suffix != ".toml":
        advice = ""
        if path.suffix in (".yaml", ".yml"):
            advice = " Write it in TOML: `seeds = 2` for `seeds: 2`, and `[[cross]]` above the fields of each cross."
        raise ConfigError(f"--grid must end in .toml: got {path}.{advice}")
    values = read_toml(path, "--grid")
    lines = _lines_of_keys(path.read_text(encoding="utf-8"))
    crosses = values.pop("cross", [])
    if not isinstance(crosses, list) or not all(isinstance(cross, dict) for cross in crosses):
        raise ConfigError(
            f"{path}, line {lines.get(('cross',), 1)}: cross must be a list of crosses: got {shown(crosses)}."
        )
    shared = _section(values, path, lines, ())
    return shared, [_section(cross, path, lines, ("cross", i)) for i, cross in enumerate(crosses)]


def _lines_of_keys(text: str) -> dict[tuple, int]:
    """Where keys stand. The parser does not tell; a grid has one level of tables, so that a line's start does."""
    lines: dict[tuple, int] = {}
    prefix: tuple = ()
    for number, line in enumerate(text.splitlines(), 1):
        start = line.partition("#")[0].partition("=")[0].strip()
        if start.startswith("[["):
            prefix = ("cross", prefix[1] + 1 if prefix else 0)
            lines[prefix] = number
            lines.setdefault(("cross",), number)
        elif start.startswith("["):
            lines.setdefault((start.strip("[] "),), number)
        else:
            lines.setdefault((*prefix, start.strip("\"'")), number)
    return lines


def _section(values: dict[str, Any], path: Path, lines: dict[tuple, int], prefix: tuple) -> Section:
    fields, places = {}, {}
    for key, value in values.items():
        place = f"{path}, line {lines.get((*prefix, key), lines.get(prefix, 1))}"
        name = str(key).replace("-", "_")
        if name in fields:
            raise ConfigError(f"{place}: {name} must be given once: got it twice, with a hyphen and an underscore.")
        fields[name], places[name] = value, place
    return Section(fields, places, f"{path}, line {lines.get(prefix, 1)}")
