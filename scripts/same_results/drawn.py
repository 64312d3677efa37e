"""The data behind figures: matplotlib's artists in place of pixels, which depend on fonts; reports and exports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import fastplast as fp

from .digests import Entries, add_table, command, digest, mask, value_digest

_SMALL = {"seeds": 3, "tasks": 3, "epochs": 1, "examples": 48, "threads": 1}
_GRID: dict[str, Any] = _SMALL | {"widths": [8, 6], "method": ["none", "l2", "wasserstein"], "strength": [0.1, 0.01]}
_GRID |= {"activation": ["relu", "tanh"], "learning_rate": [1e-2, 1e-3], "srank": "both"}
# Figures whose studies train within seconds at the smallest scale; all others take minutes together, so they are
# drawn of less than they need, which they say.
_TRAINED = (1, 2, 3, 7, 8, 9, 10, 11, 13, 14, 15, 26, 27)
_NAMED = ("consistency", "start-end", "sharpness", "cifar-permute")
_BENCHMARKS = ("mnist_shuffle", "mnist_permute", "cifar_shuffle", "cifar_permute")


@contextmanager
def recording() -> Iterator[list[Any]]:
    """Catches figures where they would be written.

    Yields:
        What was drawn, filled as figures are saved.
    """
    from matplotlib.figure import Figure

    pages: list[Any] = []

    def save(figure: Any, target: Any, *_: Any, **options: Any) -> None:
        pages.append({"figure": _page(figure), "format": options.get("format"), "metadata": options.get("metadata")})

    with mock.patch.object(Figure, "savefig", save):
        yield pages


def _page(figure: Any) -> dict[str, Any]:
    return {
        "size": figure.get_size_inches(),
        "texts": [_text(text) for text in figure.texts],
        "legends": [_legend(legend) for legend in figure.legends],
        "axes": [_axes(axes) for axes in figure.axes],
        "others": sorted(type(artist).__name__ for artist in (*figure.lines, *figure.patches, *figure.images)),
    }


def _axes(axes: Any) -> dict[str, Any]:
    spec = axes.get_subplotspec()
    return {
        "place": None if spec is None else [*spec.get_geometry()],
        "titles": [axes.get_title(loc) for loc in ("left", "center", "right")],
        "labels": [axes.get_xlabel(), axes.get_ylabel()],
        "scales": [axes.get_xscale(), axes.get_yscale()],
        "limits": [axes.get_xlim(), axes.get_ylim()],
        "visible": axes.get_visible(),
        "ticks": [axes.get_xticks(), axes.get_yticks()],
        "tick labels": [[label.get_text() for label in axis.get_ticklabels()] for axis in (axes.xaxis, axes.yaxis)],
        "lines": [_line(line) for line in axes.lines],
        "collections": [_collection(one) for one in axes.collections],
        "patches": [_patch(patch) for patch in axes.patches],
        "texts": [_text(text) for text in axes.texts],
        "images": [image.get_array() for image in axes.images],
        "legend": None if axes.get_legend() is None else _legend(axes.get_legend()),
    }


def _line(line: Any) -> list[Any]:
    look = [line.get_color(), line.get_linestyle(), line.get_linewidth(), line.get_marker(), line.get_markersize()]
    return [line.get_xydata(), str(line.get_label()), str(look), line.get_alpha(), line.get_zorder()]


def _collection(one: Any) -> list[Any]:
    paths = [path.vertices for path in one.get_paths()]
    looks = [one.get_facecolor(), one.get_edgecolor(), one.get_linewidths(), one.get_alpha(), one.get_zorder()]
    offsets = np.ma.filled(np.ma.asarray(one.get_offsets(), float), np.nan)
    return [type(one).__name__, offsets, paths, str(one.get_label()), *looks]


def _patch(patch: Any) -> list[Any]:
    path = patch.get_patch_transform().transform_path(patch.get_path())
    return [type(patch).__name__, path.vertices, patch.get_facecolor(), patch.get_edgecolor(), patch.get_hatch()]


def _text(text: Any) -> list[Any]:
    return [mask(text.get_text()), text.get_position(), text.get_fontsize(), str(text.get_color()), text.get_rotation()]


def _legend(legend: Any) -> list[Any]:
    handles = [_line(line) for line in legend.get_lines()] + [_patch(patch) for patch in legend.get_patches()]
    return [[text.get_text() for text in legend.get_texts()], handles]


def add_drawn(entries: Entries, name: str, *words: str) -> None:
    """Runs a command that draws: its text, and for each file a digest of every axes and of the rest of the page.

    Args:
        entries: to add to.
        name: of what is drawn.
        words: of the command.
    """
    with recording() as pages:
        entries[f"{name}/text"] = command(*words).text
    for number, page in enumerate(pages):
        axes = page["figure"].pop("axes")
        entries[f"{name}/{number}/page"] = value_digest(page)
        entries[f"{name}/{number}/words"] = " | ".join(text[0] for text in page["figure"]["texts"])
        for place, one in enumerate(axes):
            entries[f"{name}/{number}/axes {place} {' '.join(one['labels'][1].split())}"] = value_digest(one)


def _results() -> None:
    """A run and a sweep to draw, report and export; one member diverges."""
    rates = {"learning_rate": (1e-2, 1e-3, 1e30), "epoch_curves": True}
    fp.train(fp.Experiment(**_SMALL, widths=(8, 6), **rates, out="run"))
    fp.train(fp.Experiment(**_SMALL, widths=(8, 6), srank="off", activation="tanh", out="other"))
    fp.sweep(_GRID, "sweep", memory=1)


def plots(entries: Entries) -> None:
    """``fastplast plot`` of one, of several, of a file."""
    _results()
    command("export", "sweep", "--out", "exported.parquet")
    for name, words in {
        "run": ["run"],
        "sweep": ["sweep", "--columns", "error", "loss", "hessian_srank@end", "online_error", "--log", "loss"],
        "compared": ["run", "other", "--columns", "error", "weight_norm_l2", "--formats", "png", "svg"],
        "exported": ["exported.parquet", "--out", "drawn.png", "--columns", "hessian_sharpness"],
        "run and sweep": ["run", "sweep", "--columns", "error@start", "--formats", "pdf"],
        "diverged": ["run", "--columns", "diverged"],
    }.items():
        add_drawn(entries, name, "plot", *words)
    entries["files"] = " ".join(sorted(str(path) for path in Path().glob("*/figures/*")))
    command("plot", "run")
    for path in sorted(Path("run/figures").glob("error-hessian_srank.*")):
        entries[f"bytes of {path.name}"] = digest(path.read_bytes())
    # Of a validation, one panel is of times: it is left out, as are the seconds of its table.
    with recording() as pages:
        done = command("srank", "validate", "run", "--size", "60", "--out", "validation")
    entries["validation/last line"] = done.out.splitlines()[-1]
    for place, one in enumerate(pages[0]["figure"]["axes"][:2]):
        entries[f"validation/axes {place}"] = value_digest(one)


def reports(entries: Entries) -> None:
    """The data of a report by its parts, and its page without where and when."""
    _results()
    for name, words in {"run": ["run"], "sweep": ["sweep"], "several": ["run", "other", "--out", "both.html"]}.items():
        path = command("report", *words).out
        page = Path(path).read_text(encoding="utf-8")
        entries[f"{name}/path"] = path
        found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
        for key, value in json.loads(found[1] if found else "{}").items():
            entries[f"{name}/data/{key}"] = value_digest(value)
        # Times, versions and hardware; the policy holds digests of the scripts, of which plotly's may be another.
        page = re.sub(r"<h3>Where and when</h3>.*?(?=<h3 id|<p>Stable)", "", page, flags=re.DOTALL)
        page = re.sub(r"script-src [^;]*;", "", page)
        body, *scripts = re.split(r"<script[^>]*>", page)
        entries[f"{name}/script"] = digest(scripts[-1])
        for number, part in enumerate(re.split(r"(?=<section|<style|<header)", mask(body))):
            title = re.search(r'id="(\w+)"', part.partition(">")[0])
            entries[f"{name}/part {number} {title[1] if title else ''}"] = digest(part)


def exports(entries: Entries) -> None:
    """Files for other programs."""
    _results()
    for name in ("run", "sweep"):
        entries[f"{name}/csv"] = command("export", name, "--csv").text
        table = (Path(name) / "metrics.csv").read_text(encoding="utf-8")
        entries[f"{name}/csv/head"] = digest(table.partition("\n")[0])
        entries[f"{name}/csv/rows"] = digest(table)
        entries[f"{name}/parquet"] = command("export", name, "--out", f"{name}.parquet").text
        again = fp.load(f"{name}.parquet")
        add_table(entries, f"{name}/parquet/metrics", again.metrics("arrow"))
        entries[f"{name}/parquet/members"] = value_digest(again.members)
        entries[f"{name}/parquet/definitions"] = value_digest(again.definitions)
        entries[f"{name}/parquet/csv"] = digest(again.export_csv(f"{name}-again.csv").read_bytes())
        entries[f"{name}/parquet/of it"] = f"{again!r} {again.is_finished} {list(again.timings().columns)}"


def figures(entries: Entries) -> None:
    """Every figure of the paper: of its runs at the smallest scale, or of less than it needs."""
    last = int(re.findall(r"1 to (\d+)", command("figure", "0").err)[0])
    entries["last"] = str(last)
    given = []
    common: dict[str, Any] = {"seeds": 2, "tasks": 2, "epochs": 1, "examples": 64, "srank": "both", "threads": 1}
    common |= {"activation": ["relu", "tanh"], "learning_rate": 1e-2, "strength": [1.0, 0.01]}
    for benchmark in _BENCHMARKS:
        sizes: dict[str, Any] = {"widths": [12, 8], "benchmark": benchmark}
        sizes |= {"channels": [4, 4]} if benchmark.startswith("cifar") else {}
        cross = common | sizes | {"method": ["none", "l2", "regenerative", "wasserstein"]}
        if benchmark == "mnist_shuffle":
            cross |= {"reduction": ["mean", "sum"], "learning_rate": [1e-2, 1e-3], "seeds": 4}
        fp.sweep(cross, benchmark, memory=1)
        given.append(benchmark)
    pairs = common | {"benchmark": "class_pairs", "dataset": "cifar10", "widths": [9, 8], "channels": [4, 5, 3]}
    pairs |= {"test_examples": 16, "batch_size": 16, "epoch_curves": True, "method": ["none", "l2", "wasserstein"]}
    fp.sweep(pairs, "pairs", memory=1)
    for name in (*range(1, last + 1), *_NAMED):
        words, known = (
            ["figure", str(name), "--quiet", "--formats", "png"],
            f"{name:02d}" if isinstance(name, int) else name,
        )
        if name in (*_TRAINED, *_NAMED):
            add_drawn(entries, known, *words, "--scale", "smoke")
        else:
            pages = ["pairs"] if name in range(19, 26) else given
            add_drawn(entries, f"{known} of less", *words, "--from", *pages, "--out", "drawn")
    entries["directories"] = " ".join(sorted(path.name for path in Path("runs").iterdir()))
