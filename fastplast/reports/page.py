"""The page: data and sections in one HTML file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastplast.config import ACTIVATIONS, METHOD_NAMES
from fastplast.drawing.settings import palette
from fastplast.reports import sections
from fastplast.reports.correlations import correlations
from fastplast.reports.curves import curves, metric_words
from fastplast.reports.looks import looks
from fastplast.reports.members import members, setting_labels
from fastplast.reports.reading import Readable, ReportData, open_readers, read
from fastplast.reports.spectra import spectra
from fastplast.runs.files import write_file
from fastplast.version import __version__

_HERE = Path(__file__).parent
_ASSETS = _HERE / "assets"
_SCRIPTS = ("data.js", "theme.js", "curves.js", "spectra.js", "relations.js", "members.js", "start.js")
# U+2028 and U+2029 end a line in a script of old engines; the rest would end the element or begin a comment.
_ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def report(runs: Readable | Sequence[Readable], out: str | os.PathLike | None = None) -> Path:
    """Writes a report: one HTML file with its data, its charts and what draws them, for any browser, offline.

    Args:
        runs: a run or a sweep, or several to compare: readers or paths. They need not be finished.
        out: the file, replaced if it exists; ``report.html`` in the first run's directory if None.

    Returns:
        The file.

    Raises:
        ImportError: if plotly is not installed.
        FileNotFoundError: if a path is no run and no sweep.
        StoreError: if nothing was measured yet.
        ValueError: if no run is named.

    Example:
        >>> report("runs/mnist_shuffle")  # doctest: +SKIP
        PosixPath('runs/mnist_shuffle/report.html')
    """
    readers = open_readers(runs)
    library = _plotly_script()
    path = readers[0].path / "report.html" if out is None else Path(out).expanduser()
    write_file(path, page(read(readers), library).encode("utf-8", "replace"))
    return path


def _plotly_script() -> str:
    # The JavaScript library that draws, as the package plotly ships it.
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ImportError(
            "fastplast report needs the package plotly, which is not installed. Install it with "
            "`pip install 'fastplast[report]'` or `pip install plotly`."
        ) from error
    return get_plotlyjs().replace("</script", "<\\/script")


def page(data: ReportData, library: str) -> str:
    """The whole file.

    Args:
        data: of the runs.
        library: the script that draws.

    Returns:
        HTML.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    own = "\n".join((_ASSETS / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    scripts = [library, f'"use strict";\n(() => {{\n{own}}})();\n']
    found = correlations(data)
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html.j2").render(
        title=data.title,
        version=__version__,
        style=(_ASSETS / "page.css").read_text(encoding="utf-8"),
        overview=sections.overview(data),
        status=sections.status(data),
        ranking=sections.ranking(data),
        count=len(data.settings),
        settings=sections.settings(data),
        places=sections.places(data),
        solvers=sections.solvers(data),
        divergences=sections.divergences(data),
        definitions=sections.definitions(data),
        correlations=sections.correlation_table(found),
        policy=_policy(scripts),
        data=as_script(payload(data, found)),
        library=scripts[0],
        script=scripts[1],
    )


def payload(data: ReportData, found: list[dict[str, Any]]) -> dict[str, Any]:
    """Everything that the scripts of the page read.

    Args:
        data: of the runs.
        found: their correlations.

    Returns:
        JSON values.
    """
    from scipy import special

    most = max(len(data.members), 2)
    return {
        "palette": palette(),
        "order": {"method": METHOD_NAMES, "activation": ACTIVATIONS},
        "quantiles": [None, None, *np.round(special.stdtrit(np.arange(1, most), 0.975), 5).tolist()],  # by n
        "settings": setting_labels(data),
        "panels": looks(data)[0],
        "members": members(data),
        "diverged": {str(row): where.task for row, where in data.diverged.items()},
        "curves": curves(data),
        "spectra": spectra(data),
        "correlations": found,
        "explanations": {entry["name"]: metric_words(entry["name"]) for entry in found},
    }


def as_script(value: Any) -> str:
    """JSON that may stand inside a script element.

    Args:
        value: JSON values.

    Returns:
        The text, in which nothing can end the element.
    """
    text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character, code in _ESCAPED.items():
        text = text.replace(character, code)
    return text


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _policy(scripts: Sequence[str]) -> str:
    """No request leaves the page, and no script runs but its own, whatever a name in the results may hold."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    rules = ("default-src 'none'", f"script-src {allowed}", "style-src 'unsafe-inline'", "img-src data: blob:")
    return "; ".join([*rules, "base-uri 'none'", "form-action 'none'"])
