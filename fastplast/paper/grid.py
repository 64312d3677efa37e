"""A figure's panels: which there are and where, their lines, the legend, and what the caption must say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastplast.drawing.bands import colour_of
from fastplast.drawing.captions import CROSSES, FEW, count_words, mean_words
from fastplast.drawing.choice import Line, choice_sentences
from fastplast.drawing.panels import LEAST_WIDTH, WIDTHS, legend_handle
from fastplast.paper.lines import lines_of, values_of, words
from fastplast.paper.panels import TASKS_WITHIN, against, over_tasks, shape_of, within_tasks
from fastplast.paper.registry import LAST_HIDDEN, Grid
from fastplast.paper.results import FigureData

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_POINTS = (
    "Points: members and tasks; lines: least squares, dashed where the 95% interval of the correlation (bootstrap over "
    "members) holds 0; above: signs of the slopes, in brackets likewise."
)


@dataclass(frozen=True)
class Drawn:
    """Panels that were drawn, and what is to be said of them.

    Attributes:
        size: width and height of all of them, inches.
        legend: handles and labels.
        caption: sentences, the most important first.
        more: sentences for the text beside the picture.
        members: (run, member) that are drawn; all of the data if empty.
    """

    size: tuple[float, float]
    legend: list[tuple[Any, str]]
    caption: list[str]
    more: list[str] = field(default_factory=list)
    members: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class _Cell:
    row: int
    column: int
    metric: str
    panel: Mapping[str, Any]


def draw_grid(figure: Figure, data: FigureData, spec: Grid) -> Drawn:
    """Draws the panels of a figure.

    Args:
        figure: empty.
        data: to draw.
        spec: what to draw.

    Returns:
        What was drawn.

    Raises:
        ValueError: if a metric was not measured, or a file of results holds no curves within tasks.
    """
    panels, lines_in, left_out = _panels(data, spec)
    cells = _cells(spec, panels)
    tall, wide = (max(one) + 1 for one in zip(*((cell.row, cell.column) for cell in cells)))
    grid = figure.subplots(tall, wide, squeeze=False)
    used, correlations = set(), []
    for cell in cells:
        axes, lines = grid[cell.row][cell.column], lines_in[tuple(cell.panel.values())]
        used.add((cell.row, cell.column))
        if spec.x == "task":
            over_tasks(axes, data, cell.metric, lines, spec.log)
        elif spec.x == "update":
            within_tasks(axes, data, lines)
        else:
            found = against(axes, data, cell.metric, lines, spec.x)
            correlations.append(f"{axes.get_ylabel().replace(chr(10), ' ')}: {', '.join(found)}")
        _say_place(axes, spec, cell, tall)
    for place in {(r, c) for r in range(tall) for c in range(wide)} - used:
        grid[place].set_visible(False)
    lines_of_all = [line for lines in lines_in.values() for line in lines]
    caption = _steps(data, spec, lines_in)
    if any(len(line.members) < 5 for line in lines_of_all):
        caption.append(FEW)
    fields = [name for name in (spec.down, spec.across) if name]
    by_place = {", ".join(words(*one) for one in zip(fields, key)): lines for key, lines in lines_in.items()}
    caption += choice_sentences(by_place, say=lambda name: name.replace("learning_rate", "step size"))
    geometric = "all" if spec.log else ""
    caption.append(mean_words(geometric=geometric) if spec.x in ("task", "update") else _POINTS)
    if any(member in data.diverged for line in lines_of_all for member in line.members):
        caption.append(CROSSES)
    caption += _lacking(data, spec, lines_in, left_out)
    more = [f"Pearson's correlation [95% interval]: {text}." for text in correlations]
    if any(LAST_HIDDEN in metric for metric in spec.metrics):
        more.append(f"Stable ranks of layer {data.metric(LAST_HIDDEN)}, the last hidden one.")
    if spec.x == "update":
        more.append(
            f"The first {TASKS_WITHIN} tasks; a point is the mean of an epoch's minibatch errors before each update."
        )
    if spec.x == "task":
        more.append("A panel ends at the task that at least half of its lines get to.")
    size = (max(wide * WIDTHS.get(wide, LEAST_WIDTH), 5.6), 2.3 * tall + 0.1)
    members = frozenset(member for line in lines_of_all for member in line.members)
    return Drawn(size, _legend(data, lines_of_all, spec.x in ("task", "update")), caption, more, members)


def _panels(data: FigureData, spec: Grid) -> tuple[list[dict[str, Any]], dict[tuple, list[Line]], list[str]]:
    """The panels for which there are members, the lines of each, and panels with a line where others have several."""
    fields = [name for name in (spec.down, spec.across) if name]
    keys = data.means[fields].drop_duplicates().itertuples(index=False) if fields else [()]
    found = [dict(zip(fields, key)) for key in keys]
    ranks = {name: values_of(data.means, name) for name in fields}
    found.sort(key=lambda panel: [ranks[name].index(value) for name, value in panel.items()])
    lines = {tuple(panel.values()): lines_of(data, spec.lines, panel) for panel in found}
    if "activation" in fields:  # those of which results hold only the baseline
        most = max(map(len, lines.values()))
        kept = [panel for panel in found if len(lines[tuple(panel.values())]) > 1 or most == 1]
    else:
        kept = found
    left_out = [", ".join(words(*one) for one in panel.items()) for panel in found if panel not in kept]
    return kept, {tuple(panel.values()): lines[tuple(panel.values())] for panel in kept}, left_out


def _cells(spec: Grid, panels: Sequence[Mapping[str, Any]]) -> list[_Cell]:
    if spec.down:
        rows, columns = ([*dict.fromkeys(panel[name] for panel in panels)] for name in (spec.down, spec.across))
        return [_Cell(rows.index(p[spec.down]), columns.index(p[spec.across]), spec.metrics[0], p) for p in panels]
    if spec.across:
        return [_Cell(row, c, name, p) for row, name in enumerate(spec.metrics) for c, p in enumerate(panels)]
    wide = spec.wide or len(spec.metrics)
    return [_Cell(i // wide, i % wide, name, {}) for i, name in enumerate(spec.metrics)]


def _say_place(axes: Any, spec: Grid, cell: _Cell, tall: int) -> None:
    """Titles and labels that tell rows and columns apart; every panel has its own axes and ticks."""
    if cell.panel and (cell.row == 0 or spec.down):
        shown = cell.panel.items() if spec.down else [(spec.across, cell.panel[spec.across])]
        axes.set_title(", ".join(words(*one) for one in shown), fontsize=8, pad=4 if spec.x == "task" else 14)
    if cell.panel and cell.row < tall - 1:
        axes.set_xlabel("")
    if cell.panel and cell.column > 0:
        axes.set_ylabel("")


def _legend(data: FigureData, lines: Sequence[Line], are_curves: bool) -> list[tuple[Any, str]]:
    """One entry for each value, whatever panels it is in, with its number of members."""
    from matplotlib.lines import Line2D

    by_label: dict[str, list[Line]] = {}
    for line in lines:
        by_label.setdefault(line.label, []).append(line)
    entries = []
    for label, same in sorted(by_label.items(), key=lambda item: item[1][0].colour):
        counts = [len(line.members) for line in same]
        diverged = sum(member in data.diverged for line in same for member in line.members)
        index = same[0].colour
        points: Any = Line2D([], [], color=colour_of(index), marker=shape_of(index), ls="-")
        handle = legend_handle(index, max(counts), len(by_label)) if are_curves else points
        entries.append((handle, f"{label} ({count_words(counts, diverged, '†')})"))
    return entries


def _steps(data: FigureData, spec: Grid, lines_in: Mapping[tuple, Sequence[Line]]) -> list[str]:
    """The step size of what is drawn, where it was not chosen."""
    means, steps = data.means, dict[float, dict[str, None]]()
    step_of = dict(zip(zip(means["run"], means["member"]), means["learning_rate"]))
    drawn = [line for lines in lines_in.values() for line in lines]
    given = [line for line in drawn if "learning_rate" not in line.chosen]
    for line in given:
        for step in sorted({step_of[member] for member in line.members}):
            steps.setdefault(step, {})[line.label] = None
    if spec.lines == "learning_rate" or not steps:
        return []
    if len(steps) == 1:
        return [f"Step size {next(iter(steps)):g}{' where none was chosen' * (len(given) < len(drawn))}."]
    return [f"Step size {'; '.join(f'{step:g} of ' + ', '.join(names) for step, names in sorted(steps.items()))}."]


def _lacking(
    data: FigureData, spec: Grid, lines_in: Mapping[tuple, Sequence[Line]], left_out: Sequence[str]
) -> list[str]:
    """Lines and panels of the figure that the results do not hold."""
    where, fields = data.figure.where, [name for name in (spec.down, spec.across) if name]
    texts = []
    for i, name in enumerate(fields):
        there = {key[i] for key in lines_in}
        texts += [words(name, value) for value in where.get(name, ()) if value not in there]
    for key, lines in lines_in.items():
        there = {line.value for line in lines}
        lost = [words(spec.lines, value) for value in where.get(spec.lines, ()) if value not in there]
        place = f" of {', '.join(words(*one) for one in zip(fields, key))}" if key else ""
        texts += [f"{', '.join(lost)}{place}"] if lost else []
    texts += [f"several lines of {name}" for name in left_out if not set(texts) & {name, *name.split(", ")}]
    return [f"Not in these results: {'; '.join(texts)}."] if texts else []
