"""Panel, colour and style of every setting in the charts, and which are shown at first: as ``fastplast plot`` does."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastplast.drawing.facets import place_fields
from fastplast.drawing.settings import colours_of, palette, phrase, sort_key
from fastplast.reports.reading import ReportData, mean_over_tasks

_OTHERS = 3  # styles of settings that are not shown at first, beside those of their line


class Look(NamedTuple):
    """How a setting is drawn.

    Attributes:
        colour: index into the palette.
        dash: index of the line style; that of the colour if None.
        panel: index of its panel.
        is_first: whether it is shown before the reader chooses.
    """

    colour: int
    dash: int | None
    panel: int
    is_first: bool


def looks(data: ReportData) -> tuple[list[str], list[Look]]:
    """How the settings are drawn.

    Few settings, or such that differ in one field, have a colour each. Of more, colours stand for one field and panels
    for others, and the setting of least mean error of each colour and panel is shown at first.

    Args:
        data: of the runs.

    Returns:
        The panels in words, and a look for each setting.
    """
    members = data.members.drop(columns="id").rename(columns={"part": "run"})
    members = members.astype(object).where(members.notna(), None)
    fields = place_fields(members, {}, len(data.settings))
    if fields is None:
        return [""], [Look(setting.colour, None, 0, True) for setting in data.settings]
    rows = members.iloc[[own[0] for own in data.rows]].to_dict("records")
    values = {
        place: sorted({row[name] for row in rows}, key=lambda one, name=name: sort_key(name, one)) if name else [None]
        for place, name in fields.items()
    }
    colours = dict(zip(values["hue"], colours_of(fields["hue"] or "", values["hue"], len(palette()))))
    panels: dict[tuple[Any, Any], int] = {}
    for key in sorted({_key(row, fields, "row", "col") for row in rows}, key=lambda key: _order(key, values)):
        panels[key] = len(panels)
    lines: dict[tuple[Any, ...], list[int]] = {}
    for number in np.argsort(_mean_errors(data), kind="stable"):  # what has no mean is last
        lines.setdefault(_key(rows[number], fields, *fields), []).append(int(number))
    found: dict[int, Look] = {}
    for own in lines.values():
        for place, number in enumerate(own):
            row = rows[number]
            style = values["style"].index(row[fields["style"]]) if fields["style"] else None
            dash = style if place == 0 else (style or 0) + 1 + (place - 1) % _OTHERS
            panel = panels[_key(row, fields, "row", "col")]
            found[number] = Look(colours[row[fields["hue"] or ""]], dash, panel, place == 0)
    names = [data.parts[value].name if name == "run" else phrase(name, value)
             for key in panels for name, value in zip((fields["row"], fields["col"]), key) if name]  # fmt: skip
    width = sum(fields[place] is not None for place in ("row", "col")) or 1
    words = [", ".join(names[i : i + width]) for i in range(0, len(names), width)] or [""]
    return words, [found[number] for number in range(len(rows))]


def _key(row: dict[str, Any], fields: Any, *places: str) -> tuple[Any, ...]:
    return tuple(row[fields[place]] if fields[place] else None for place in places)


def _order(key: tuple[Any, ...], values: dict[str, list[Any]]) -> tuple[int, ...]:
    return tuple(values[place].index(value) for place, value in zip(("row", "col"), key))


def _mean_errors(data: ReportData) -> np.ndarray:
    """Of each setting the mean over members and tasks; NaN where one diverged, or no error was measured."""
    error = data.curves.get(("error", "end"))
    if error is None:
        return np.full(len(data.settings), np.nan)
    gone = np.isin(np.arange(len(error)), list(data.diverged))
    means = np.where(gone, np.nan, mean_over_tasks(error))
    return np.array([means[list(own)].mean() for own in data.rows])
