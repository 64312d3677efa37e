"""The page of ``fastplast plot``: metrics in a grid of panels, with title, legend and caption."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastplast.config import BENCHMARKS, Experiment, defaults_of
from fastplast.drawing.captions import CROSSES, IN_TITLE, Labels, count_words, mean_words, seed_words, title_words
from fastplast.drawing.choice import Frame, Line, choice_sentences
from fastplast.drawing.columns import Axis, range_of
from fastplast.drawing.facets import PROBLEM, Facets
from fastplast.drawing.page import CAPTION_LINES, add_texts, fit_caption, plain, wrapped
from fastplast.drawing.panels import (
    LEAST_WIDTH,
    NARROW,
    SPACIOUS,
    WIDTHS,
    dot_handle,
    draw_over_tasks,
    label_of,
    legend_handle,
    set_limits,
)
from fastplast.drawing.settings import phrase

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANEL = (3.6, 2.6)  # inches, of metrics alone
_HEIGHT = 2.3  # of a row of panels by fields
_LEAST_WIDTH = 4.8  # of a figure
_MORE = "More: config.json of the runs."
Panel = tuple[int, tuple[Any, Any]]  # position of the metric; values of the row and the column


@dataclass(frozen=True)
class Shown:
    """What a figure shows.

    Attributes:
        table: metrics of the members that it may show, with a column ``run``.
        members: one row for each of them.
        diverged: (run, member) to the task in which it diverged.
        facets: what is drawn where.
        constant: hyperparameters that do not vary.
        sources: where the data come from, in words.
        parts: what is drawn beside means, as of ``draw_members``.
        score: what the best settings are best in, in words.
        say: a field and its value to words.
    """

    table: Frame
    members: Frame
    diverged: Mapping[tuple[int, int], int]
    facets: Facets
    constant: Mapping[str, Any]
    sources: Sequence[str]
    parts: Collection[str]
    score: str
    say: Callable[[str, Any], str]

    @property
    def has_lines(self) -> bool:
        """Whether there is more than one task, and so lines in place of dots."""
        return self.table["task"].nunique() > 1

    @property
    def lines(self) -> list[Line]:
        """Those of all panels."""
        return [line for lines in self.facets.lines.values() for line in lines]

    def place(self, key: tuple[Any, Any]) -> str:
        """The row and the column of a panel, in words."""
        fields = (self.facets.fields["row"], self.facets.fields["col"])
        return ", ".join(self.say(name, value) for name, value in zip(fields, key) if name)


def draw_sheet(
    shown: Shown,
    panels: Sequence[tuple[str, Axis]],
    log: Sequence[bool],
    labels: Labels,
    title: str | None,
    size: tuple[float, float] | None,
    caption: bool,
) -> Figure:
    """Draws the whole figure; to be called within ``styled``.

    Args:
        shown: what to draw.
        panels: metrics and their axes.
        log: whether each has a logarithmic axis.
        labels: words in place of the figure's own.
        title: as of ``plot``.
        size: likewise.
        caption: likewise.

    Returns:
        The figure.

    Raises:
        ValueError: if a label is not drawn, a log axis has nothing positive, or `size` leaves no room.
    """
    from matplotlib.figure import Figure

    cells = _cells(shown.facets, len(panels))
    tall, wide = (max(one) + 1 for one in zip(*cells))
    figure = Figure(layout="constrained")
    axes_of = {place: figure.add_subplot(tall, wide, place[0] * wide + place[1] + 1) for place in cells}
    geometric = list[str]()
    for number, (metric, is_log) in enumerate(zip(panels, log)):
        if is_log and _is_positive(shown, metric):
            geometric.append(metric[1].label)
        look = (is_log, metric[1].label in geometric)
        _draw_metric(shown, metric, look, {axes_of[p]: key for p, (i, key) in cells.items() if i == number})
    for place, axes in axes_of.items():
        _say_place(axes, shown, cells, place, labels, panels)
    by_field = any(shown.facets.fields[name] for name in ("row", "col"))
    width = wide * WIDTHS.get(wide, LEAST_WIDTH) if by_field else wide * _PANEL[0]
    height = tall * _HEIGHT + 0.1 if by_field else tall * _PANEL[1]
    legend, words = _legend(shown, labels), _title(shown) if title is None else title
    labels.check()
    given = (max(width, _LEAST_WIDTH), None) if size is None else size
    means = "all" if len(geometric) == len(panels) else " and ".join(geometric)
    whole, short = (_caption(shown, means, is_short) for is_short in (False, True))
    fits = len(wrapped(" ".join(whole), given[0])) <= CAPTION_LINES
    small = fit_caption(whole if fits else short, given[0], CAPTION_LINES, _MORE) if caption else ""
    add_texts(figure, (given[0], height), words, legend, small, given[1])
    return figure


def _cells(facets: Facets, metrics: int) -> dict[tuple[int, int], Panel]:
    """Row and column in the grid to what is drawn there: metrics go down, or across where only rows go by a field."""
    rows, cols = facets.values["row"], facets.values["col"]
    if facets.fields["col"]:
        found = {
            (number * len(rows) + r, c): (number, (row, col))
            for number in range(metrics) for r, row in enumerate(rows) for c, col in enumerate(cols)
        }  # fmt: skip
    elif facets.fields["row"]:
        found = {(r, number): (number, (row, None)) for number in range(metrics) for r, row in enumerate(rows)}
    else:
        wide = 2 if metrics == 4 else min(metrics, 3)
        found = {(number // wide, number % wide): (number, (None, None)) for number in range(metrics)}
    return {place: panel for place, panel in found.items() if panel[1] in facets.lines}


def _is_positive(shown: Shown, metric: tuple[str, Axis]) -> bool:
    """Whether a metric has a value above 0 of every member that is drawn, so that it has a logarithm."""
    column, axis = metric
    drawn = {member for line in shown.lines for member in line.members}
    table = shown.table[shown.table["when"] == axis.when]
    own = [pair in drawn for pair in zip(table["run"], table["member"])]
    return not (table.loc[own, column] <= 0).any()


def _draw_metric(
    shown: Shown, metric: tuple[str, Axis], look: tuple[bool, bool], panels: Mapping[Any, tuple[Any, Any]]
) -> None:
    """Draws a metric in its panels, which have the same scale unless they are of different problems or networks.

    Args:
        shown: what is drawn.
        metric: its column and its axis.
        look: whether the axis is logarithmic, and whether means and bands are those of logarithms.
        panels: axes to the values of their row and column.

    Raises:
        ValueError: if a logarithmic axis has nothing positive.
    """
    (column, axis), (log, geometric) = metric, look
    ticks = SPACIOUS.ticks if len(panels) == 1 else NARROW.ticks
    drawn = {}
    for axes, key in panels.items():
        lines = shown.facets.lines[key]
        drawn[axes] = draw_over_tasks(
            axes, shown.table, (column, axis.when), lines, shown.diverged, geometric, ticks, shown.parts
        )
    of_all = [part for parts in drawn.values() for part in parts]
    has_values = any(lines.size for lines, *_ in of_all)
    if has_values and log and not any((lines > 0).any() for lines, *_ in of_all):
        raise ValueError(f"log needs positive values: got none in {column!r}. Draw it on a linear axis.")
    ends = range_of(column, shown.table, shown.table[column].to_numpy(float))
    for axes, own in drawn.items():
        parts = of_all if _is_shared(shown.facets) else own
        if any((lines > 0).any() if log else lines.size for lines, *_ in parts):
            set_limits(axes, parts, log, ends)


def _is_shared(facets: Facets) -> bool:
    return not {facets.fields["row"], facets.fields["col"]} & {*PROBLEM, "network"}


def _say_place(
    axes: Any,
    shown: Shown,
    cells: Mapping[tuple[int, int], Panel],
    place: tuple[int, int],
    labels: Labels,
    panels: Sequence[tuple[str, Axis]],
) -> None:
    """Titles and labels that tell rows and columns apart: labels of axes only at the left and at the bottom."""
    (number, key), fields = cells[place], shown.facets.fields
    column, axis = panels[number]
    label = label_of(axis, SPACIOUS.letters if fields["row"] is fields["col"] is None else NARROW.letters)
    axes.set_ylabel(labels.given(f"{column}@{axis.when}", column) or label)
    axes.set_xlabel(labels.given("task") or axes.get_xlabel())
    if fields["col"] and place[1] > min(c for r, c in cells if r == place[0]):
        axes.set_ylabel("")
        axes.tick_params(labelleft=not _is_shared(shown.facets), which="both")
    if (fields["row"] or fields["col"]) and place[0] < max(r for r, c in cells if c == place[1]):
        axes.set_xlabel("")
    if fields["row"] or (fields["col"] and place[0] == min(r for r, c in cells if c == place[1])):
        axes.set_title(shown.place(key), pad=4)


def _legend(shown: Shown, labels: Labels) -> list[tuple[Any, str]]:
    """An entry for each colour, whatever panels it is in, with its number of members; and one for each style.

    Raises:
        ValueError: if styles would tell dots apart.
    """
    from matplotlib.lines import Line2D

    fields, entries = shown.facets.fields, list[tuple[Any, str]]()
    most = max(map(len, shown.facets.lines.values()))
    has_styles = fields["style"] not in (None, fields["hue"])
    if has_styles and not shown.has_lines:
        raise ValueError(f"style tells lines apart: got dots, of one task. Name {fields['style']} as hue, row or col.")
    by_value: dict[str, list[Line]] = {}
    for line in shown.lines:
        by_value.setdefault(line.value, []).append(line)
    for value, lines in by_value.items():
        counts, colour = [len(line.members) for line in lines], lines[0].colour
        diverged = sum(member in shown.diverged for line in lines for member in line.members)
        label = labels.given(value) or value or ("mean" if max(counts) > 1 else "member")
        dash = "-" if has_styles else lines[0].dash
        members = max(counts) if "band" in shown.parts else 1
        handle = legend_handle(colour, members, most, dash) if shown.has_lines else dot_handle(colour)
        entries.append((handle, f"{label} ({count_words(counts, diverged)})"))
    for style, dash in shown.facets.dashes.items() if has_styles else ():
        entries.append((Line2D([], [], color="0.35", ls=dash), shown.say(fields["style"] or "", style)))
    return entries


def _title(shown: Shown) -> str:
    count = len({member for line in shown.lines for member in line.members})
    return plain("  ·  ".join([*title_words(shown.table), f"{count} member{'s' * (count > 1)}"]))


def _caption(shown: Shown, geometric: str, is_short: bool) -> list[str]:
    """Sentences, the most important first."""
    sentences = []
    if any(len(line.members) > 1 for line in shown.lines):
        sentences.append(mean_words(shown.has_lines, shown.parts, geometric))
    if any(member in shown.diverged for line in shown.lines for member in line.members):
        sentences.append(CROSSES)
    by_place = {shown.place(key): lines for key, lines in shown.facets.lines.items()}
    sentences += choice_sentences(by_place, shown.score, lambda name: name.replace("_", " "), is_short)
    sentences.append(f"Data: {'; '.join(shown.sources)}.")
    usual = _usual(set(shown.members["benchmark"]) if "benchmark" in shown.members else set())
    others = {name: value for name, value in shown.constant.items() if name not in IN_TITLE}
    words = [phrase(name, value) for name, value in others.items() if not usual(name, value)]
    drawn = {member for line in shown.lines for member in line.members}
    pairs = zip(shown.members["run"], shown.members["member"], shown.members["seed"])
    words.append(seed_words(seed for run, member, seed in pairs if (run, member) in drawn))
    text = ", ".join(word.replace(" ", "\N{NO-BREAK SPACE}") for word in words)  # lines break between them
    rest = "; all others at their defaults" * any(usual(name, value) for name, value in others.items())
    return [one.replace(r"\$", "$") for one in [*sentences, f"Settings: {text}{rest}."]]


def _usual(benchmarks: Collection[str]) -> Callable[[str, Any], bool]:
    """Whether a field has its default in every one of some problems."""
    known = [defaults_of(name) for name in benchmarks if name in BENCHMARKS]

    def is_usual(name: str, value: Any) -> bool:
        if name not in Experiment.__dataclass_fields__ or len(known) < len(benchmarks):
            return False
        of_all = Experiment.__dataclass_fields__[name].default
        return all(value in (usual := own.get(name, of_all), *_listed(usual)) for own in known)

    return is_usual


def _listed(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else ()
