"""Which panel and which line of it a member belongs to: rows, columns, colours and styles by fields of members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastplast.config import ConfigError
from fastplast.drawing.bands import LINE_STYLES
from fastplast.drawing.choice import Frame, Line, choose, with_same_seeds
from fastplast.drawing.settings import NOT_SETTINGS, Setting, colours_of, palette, sort_key, varying_fields
from fastplast.text import closest

PLACES = ("row", "col", "hue", "style")
MOST_SETTINGS = 7  # drawn in one panel where nothing is said: as many as there are colours
# Errors on different tasks are not compared, so that none of these is chosen.
PROBLEM = ("benchmark", "dataset", "examples", "classes")
_USUAL = {"hue": ("method", "activation", "network"), "col": ("activation", "network")}


@dataclass(frozen=True)
class Facets:
    """What is drawn where.

    Attributes:
        fields: ``"row"``, ``"col"``, ``"hue"`` and ``"style"`` to the field that each goes by; None where to none.
        values: of each of these fields, in the order in which they are drawn.
        lines: (value of the row, value of the column) to the lines of that panel; their ``value`` is what their colour
            stands for, in words.
        dashes: value of the style's field to its line style.
    """

    fields: Mapping[str, str | None]
    values: Mapping[str, list[Any]]
    lines: Mapping[tuple[Any, Any], list[Line]]
    dashes: Mapping[Any, str]


def fields_of(members: Frame) -> list[str]:
    """The fields by which panels and lines can be told apart."""
    return [*(name for name in members.columns if name not in NOT_SETTINGS), "seed"]


def in_one_panel(settings: Sequence[Setting], members: Frame) -> Facets:
    """A line for each setting.

    Args:
        settings: of the members.
        members: one row each, with ``run``, ``member`` and ``seed``.

    Returns:
        What is drawn where.
    """
    seed_of = _seeds(members)
    lines = [
        Line(
            one.label, one.members, one.colour, value=one.label, seeds=frozenset(map(seed_of.__getitem__, one.members))
        )
        for one in settings
    ]
    return Facets(dict.fromkeys(PLACES), {place: [None] for place in PLACES}, {(None, None): lines}, {})


def _seeds(members: Frame) -> dict[tuple[int, int], int]:
    return dict(zip(zip(members["run"], members["member"]), members["seed"]))


def narrow(members: Frame, where: Mapping[str, Any]) -> Frame:
    """The members with given values of fields.

    Args:
        members: a row each.
        where: field to a value, or to several.

    Returns:
        Rows of `members`.

    Raises:
        ConfigError: if a field is unknown, or no member has a value.
    """
    for name, wanted in where.items():
        _check_field("where", name, fields_of(members))
        values = [wanted] if isinstance(wanted, str) or not hasattr(wanted, "__iter__") else list(wanted)
        found = [[_is_same(one, value) for one in members[name]] for value in values]
        for value, rows in zip(values, found):
            if not any(rows):
                known = sorted(members[name].unique(), key=lambda one: sort_key(name, one))
                raise ConfigError(
                    f"where must name values of members: got {name} {value}. Known: {', '.join(map(str, known))}."
                )
        members = members[[any(row) for row in zip(*found)]]
    return members


def _is_same(value: Any, wanted: Any) -> bool:
    return value == wanted or str(value).casefold() == str(wanted).casefold()


def _check_field(option: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise ConfigError(f"{option} must be a field of the members: got {name!r}. {closest(name, known)}")


def place_fields(members: Frame, given: Mapping[str, str | None], several: int) -> dict[str, str | None] | None:
    """The fields that rows, columns, colours and styles go by.

    Args:
        members: a row each.
        given: those that were asked for.
        several: settings there are.

    Returns:
        A field or None for each of ``PLACES``. None if nothing was asked for and each setting can have a line: there
        are few of them, or they differ in one field.

    Raises:
        ConfigError: if one is unknown, or named twice.
    """
    found = {place: given.get(place) for place in PLACES}
    for place, name in found.items():
        if name is not None:
            _check_field(place, name, [*fields_of(members), "run"])
            twice = [other for other, same in found.items() if same == name]
            if len(twice) > 1 and twice != ["hue", "style"]:
                raise ConfigError(f"{' and '.join(twice)} must go by different fields: got {name!r}.")
    if any(found.values()):
        return found
    varying = varying_fields(members)
    if several <= MOST_SETTINGS or len(varying) < 2:
        return None
    others = [name for name in varying if name not in PROBLEM]
    found["hue"] = next((name for name in (*_USUAL["hue"], *others) if name in varying), varying[0])
    for place in ("col", "row", "style"):
        names = [name for name in found.values() if name]
        parts = [part for _, part in members.groupby(names, dropna=False)]
        apart = {name for part in parts for name in varying_fields(part)}
        apart |= {"run"} if any(map(_is_repeated, parts)) else set()
        usual = _USUAL["col"] if place == "col" else ()
        found[place] = next((name for name in (*PROBLEM, *usual, "run") if name in apart), None)
    return found


def _is_repeated(members: Frame) -> bool:
    """Whether several runs hold the same setting and seed."""
    return bool(members.duplicated([*varying_fields(members), "seed"]).any())


def arrange(
    members: Frame, fields: Mapping[str, str | None], scores: Frame, say: Any, better: str = "lowest"
) -> Facets:
    """Puts members into panels and lines; of settings that would share a line, the best is drawn.

    Args:
        members: one row per member, with ``run``, ``member``, ``seed`` and ``tasks``.
        fields: of ``place_fields``.
        scores: (run, member) x task, as of ``choose``.
        say: a field and its value to words.
        better: as of ``choose``.

    Returns:
        What is drawn where.

    Raises:
        ConfigError: if members that share a line are of different problems, or more colours or styles are needed than
            can be told apart.
    """
    values = {
        place: sorted(members[name].unique(), key=lambda one, name=name: sort_key(name, one)) if name else [None]
        for place, name in fields.items()
    }
    looks = _colours(fields, values)
    dashes = _dashes(fields, values)
    seed_of = _seeds(members)
    lines: dict[tuple[Any, Any], list[Line]] = {}
    for row in values["row"]:
        for col in values["col"]:
            own = _of(members, (fields["row"], row), (fields["col"], col))
            drawn = []
            for hue in values["hue"]:
                for style in values["style"] if fields["style"] != fields["hue"] else [hue]:
                    part = _of(own, (fields["hue"], hue), (fields["style"], style))
                    if not part.empty:
                        keys = {fields["hue"]: hue, fields["style"]: style}
                        words = [say(name, value) for name, value in keys.items() if name]
                        colour = words[0] if fields["hue"] else ""
                        part, chosen, by = _choose(part, scores, better)
                        who, seeds = tuple(zip(part["run"], part["member"])), frozenset(part["seed"])
                        look = (looks[hue], dashes.get(style))
                        drawn.append(Line(" ".join(words), who, *look, value=colour, seeds=seeds, chosen=chosen, by=by))
            if drawn:
                lines[row, col] = with_same_seeds(drawn, seed_of)
    return Facets(fields, values, lines, dashes)


def _of(members: Frame, *wanted: tuple[str | None, Any]) -> Frame:
    for name, value in wanted:
        if name is not None:
            members = members[members[name].map(repr) == repr(value)]
    return members


def _choose(part: Frame, scores: Frame, better: str) -> tuple[Frame, dict[str, Any], tuple[int, ...] | None]:
    """The members of a line that are drawn, what was chosen, and the seeds that chose it.

    Raises:
        ConfigError: if they are of different problems, or several have one setting and seed.
    """
    varying = varying_fields(part)
    if mixed := [name for name in varying if name in PROBLEM]:
        raise ConfigError(
            f"members of one line must be of one problem: got {mixed[0]} "
            f"{', '.join(map(str, part[mixed[0]].unique()))}. Name {mixed[0]} as row, col, hue or style, or in where."
        )
    if _is_repeated(part):
        raise ConfigError(
            "members of one line must have different seeds: got several runs of the same settings and seeds. "
            "Name run as row, col, hue or style."
        )
    if not varying:
        return part, {}, None
    chosen, by = choose(part, scores, varying, better=better)
    return _of(part, *chosen.items()), chosen, by


def _colours(fields: Mapping[str, str | None], values: Mapping[str, Sequence[Any]]) -> dict[Any, int]:
    hues, count = values["hue"], len(palette())
    if fields["style"] not in (None, fields["hue"]) and len(hues) > count:
        raise ConfigError(
            f"hue has {count} colours beside a style: got {len(hues)} values of {fields['hue']}. "
            "Name the field as row or col, or fewer values in where."
        )
    return dict(zip(hues, colours_of(fields["hue"] or "", hues, count)))


def _dashes(fields: Mapping[str, str | None], values: Mapping[str, Sequence[Any]]) -> dict[Any, str]:
    styles = values["style"]
    if fields["style"] is None:
        return {}
    if len(styles) > len(LINE_STYLES):
        raise ConfigError(
            f"style has {len(LINE_STYLES)} kinds of lines: got {len(styles)} values of {fields['style']}. "
            "Name the field as hue, row or col, or fewer values in where."
        )
    return dict(zip(styles, LINE_STYLES))
