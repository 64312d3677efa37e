"""A page: panels, a title above them, the legend and a caption below; and its files."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastplast.config import ConfigError
from fastplast.runs.files import write_file
from fastplast.text import closest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "pdf", "svg")
_METADATA = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}  # no time: same bytes
CAPTION_LINES = 4
_LEAST_HEIGHT = 0.8  # inches of panels
_LETTER = 0.053  # inches, of the legend's font


def figures_directory(path: Path) -> Path:
    """Where the figures of a run go: ``figures/`` in its directory, or beside a file of exported results."""
    return (path if path.is_dir() else path.parent) / "figures"


def name_of(path: Path) -> str:
    """What a run is called: its directory, or its file without the ending."""
    return path.stem if path.is_file() else path.resolve().name


def version_of(env: dict[str, Any]) -> str:
    """The version and commit that results come from, in words."""
    commit = f", commit {env['commit'][:7]}{' with changes' if env['dirty'] else ''}" if env["commit"] else ""
    return f"(fastplast {env['fastplast']}{commit})"


@contextmanager
def styled() -> Iterator[None]:
    """The look of every figure, for as long as it is drawn and saved."""
    from matplotlib import style

    with style.context(str(Path(__file__).parent / "fastplast.mplstyle"), after_reset=True):
        yield


def fit_caption(sentences: Sequence[str], width: float, lines: int, last: str) -> str:
    """As many sentences as a caption has room for.

    Args:
        sentences: the most important first.
        width: of the figure, inches.
        lines: of the caption, at most.
        last: what is said in place of those left out.

    Returns:
        Text of so many lines.
    """
    for kept in range(len(sentences), -1, -1):
        text = " ".join([*sentences[:kept], *([last] if kept < len(sentences) else [])])
        if len(wrapped(text, width)) <= lines:
            return text
    return last


def wrapped(caption: str, width: float) -> list[str]:
    """The lines of a caption below a figure so many inches wide."""
    return textwrap.wrap(caption, int(width * 20), break_on_hyphens=False)


def plain(text: str) -> str:
    """A text whose dollar signs are drawn: names of runs and data may hold some."""
    return text.replace("$", r"\$")


def add_texts(
    figure: Figure,
    size: tuple[float, float],
    title: str,
    legend: Sequence[tuple[Any, str]],
    caption: str,
    height: float | None = None,
) -> None:
    """Puts title, legend and caption around the panels of a figure, which grows for them.

    Args:
        figure: with its panels, in constrained layout.
        size: width and height of the panels, inches.
        title: a line; formulas stand between dollar signs. May be empty.
        legend: handles and labels, likewise.
        caption: text, which is wrapped; lines do not break at no-break spaces. May be empty.
        height: of the whole figure, inches, in which the panels get what the texts leave; from `size` if None.

    Raises:
        ValueError: if `height` leaves too little for panels.
    """
    width, panels = size
    text = [plain(line) for line in wrapped(caption, width)]
    labels = [textwrap.fill(text, int((width - 0.65) / _LETTER), break_on_hyphens=False) for _, text in legend]
    longest = max((len(line) for label in labels for line in label.splitlines()), default=0)
    columns = max(1, min(len(labels), int(width / (0.5 + _LETTER * longest))))
    lines = max((label.count("\n") + 1 for label in labels), default=0) * math.ceil(len(labels) / columns)
    head = 0.3 if title else 0.06
    legend_height = 0.158 * lines + 0.1
    caption_height = 0.115 * len(text) + 0.08 if text else 0.0
    texts = head + legend_height + caption_height
    if height is None:
        height = panels + texts
    elif height - texts < _LEAST_HEIGHT:
        raise ValueError(
            f"size must leave {_LEAST_HEIGHT} inches for panels: got {width:g} x {height:g}, of which the texts take "
            f"{texts:.1f}. Give more height, or leave out the caption."
        )
    figure.set_size_inches(width, height)
    bottom = (legend_height + caption_height) / height
    figure.get_layout_engine().set(rect=(0, bottom, 1, 1 - bottom - head / height), w_pad=0.07)  # type: ignore[union-attr]
    if title:
        fitting = min(9.0, 130 * width / len(title))
        figure.text(0.5, 1 - 0.08 / height, title, ha="center", va="top", fontsize=fitting)
    if labels:
        handles, anchor = [handle for handle, _ in legend], (0.5, caption_height / height)
        figure.legend(handles, labels, loc="lower center", bbox_to_anchor=anchor, ncols=columns, borderaxespad=0)
    if text:
        place = (0.06 / width, 0.06 / height)
        figure.text(*place, "\n".join(text), va="bottom", fontsize=6.5, color="0.35", linespacing=1.2)


def check_formats(formats: Sequence[str]) -> None:
    """Checks the formats of files.

    Args:
        formats: as given.

    Raises:
        ConfigError: if one is unknown.
    """
    for name in formats:
        if name not in FORMATS:
            raise ConfigError(f"formats must be known names: got {name!r}. {closest(name, FORMATS)}")


def save(figure: Figure, paths: Sequence[Path]) -> None:
    """Writes a figure; the same figure makes the same bytes.

    Args:
        figure: finished.
        paths: a file each, whose ending is its format.
    """
    for path in paths:
        buffer = io.BytesIO()
        figure.savefig(buffer, format=path.suffix[1:], metadata=_METADATA[path.suffix[1:]])
        write_file(path, buffer.getvalue())
