"""What each command does: options from the parser -> config -> call -> exit status."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fastplast.cli import train
from fastplast.cli.exit_codes import DONE, FAILED
from fastplast.cli.flags import OWN_RUN, option_help, pairs_of
from fastplast.config import (
    BENCHMARKS,
    DEFINITIONS,
    DEFINITIONS_ON_REQUEST,
    METHOD_OPTIONS,
    METHOD_SUMMARIES,
    NETWORK_SUMMARIES,
    OTHER_NAMES,
    ConfigError,
    Experiment,
    flag,
)
from fastplast.text import closest, fitted, recognize, terminal_width

STDOUT = "-"
PLOT_OPTIONS = ("row", "col", "hue", "style", "best", "best_is", "log", "title", "members", "band", "caption")


def _status(options: dict[str, Any]) -> int:
    import json

    from fastplast.runs.status import status
    from fastplast.runs.status_text import as_json, as_text

    found = status(options["run"])
    if options["json"]:
        print(json.dumps(as_json(found, options["run"])))
    else:
        print(fitted(as_text(found, options["run"], terminal_width())))
    return DONE


def _plot(options: dict[str, Any]) -> int:
    _check_paths(options["runs"])
    from fastplast.drawing import write_plot

    look = {name: options[name] for name in PLOT_OPTIONS} | {
        "where": pairs_of("where", options["where"], several=True),
        "labels": pairs_of("labels", options["labels"]),
        "size": _size(options["size"]),
    }

    def draw(out: str | Path | None, formats: list[str]) -> list[Path]:
        return write_plot(options["runs"], options["columns"], out, formats, **look)

    if options["out"] == STDOUT:
        if len(options["formats"]) > 1:
            raise ConfigError(f"--out - prints one file: got {', '.join(options['formats'])}. Choose one by --formats.")
        (ending,) = options["formats"]
        return _print_file(lambda out: draw(out.with_suffix(f".{ending}"), [ending])[0])
    for path in draw(options["out"], options["formats"]):
        print(path)
    return DONE


def _size(text: str | None) -> tuple[float, float] | None:
    """Width and height of a figure as they were typed.

    Raises:
        ConfigError: if these are none.
    """
    if text is None:
        return None
    try:
        width, height = map(float, text.casefold().split("x"))
    except ValueError:
        width = height = 0.0
    if not (0 < width <= 100 and 0 < height <= 100):
        raise ConfigError(f"--size must be WIDTHxHEIGHT in inches, such as 5.5x3: got {text!r}.")
    return width, height


def _figure(options: dict[str, Any]) -> int:
    from fastplast.paper.costs import list_figures
    from fastplast.paper.registry import adapt, figure_of

    if options["list"]:
        print(fitted(list_figures()))
        return DONE
    if options["figure"] is None:
        raise ConfigError("figure needs a number or a name: got none. `fastplast figure --list` lists them.")
    where = pairs_of("where", options["where"], several=True)
    metrics = pairs_of("metric", options["metric"])
    figure = adapt(figure_of(options["figure"]), where, options["lines"], options["x"], metrics)
    from fastplast.paper.make import draw_figure
    from fastplast.paper.plans import plan_missing, preview

    given = options["from_paths"]
    if options["dry_run"]:
        print(fitted(preview(figure, options["scale"], given)))
        return DONE
    if given is None:
        again = f"fastplast figure {options['figure']} --scale {options['scale']}"
        for plan in plan_missing(figure, options["scale"]):
            if status := train.run_plan(plan, options, again):
                return status
    for path in draw_figure(figure, given, options["scale"], options["out"], options["formats"]):
        print(path)
    return DONE


def _table(options: dict[str, Any]) -> int:
    _check_paths(options["runs"])
    from fastplast.cli.table import table_of

    by = [one for name in options["by"] for one in name.split(",") if one]
    width = terminal_width()
    print(table_of(options["runs"], by, options["best"], options["kind"], options["metric"], options["best_is"], width))
    return DONE


def _check_suffix(out: str | None, *suffixes: str) -> None:
    # Refuses a file whose name says another format than what will be in it.
    found = Path(out or "").suffix
    if found and found not in suffixes and not Path(str(out)).is_char_device():
        raise ConfigError(f"--out must end in {' or '.join(suffixes)}: got {out}. Name it after what is in it.")


def _report(options: dict[str, Any]) -> int:
    _check_suffix(options["out"], ".html", ".htm")
    _check_paths(options["runs"])
    from fastplast.reports import report

    if options["out"] == STDOUT:
        return _print_file(partial(report, options["runs"]))
    print(report(options["runs"], options["out"]))
    return DONE


def _list(options: dict[str, Any]) -> int:
    what = options["what"]
    if what == "benchmarks":
        rows = {
            k: f"{v['dataset'] or 'any dataset'}, {v['change']}, {v['tasks']} tasks, {v['network']}"
            for k, v in BENCHMARKS.items()
        }
    elif what == "networks":
        rows = dict(NETWORK_SUMMARIES)
    elif what == "methods":
        rows = {}
        for name, (summary, reference) in METHOD_SUMMARIES.items():
            rows[name] = summary + (f" ({reference})" if reference else "")
            options = METHOD_OPTIONS.get(name, {})
            rows |= {flag(f"{name}_{own}"): option_help(option) for own, option in options.items()}
    elif what == "datasets":
        from fastplast.data import DATASETS

        rows = {name: f"{spec.shape}, {spec.num_classes} classes" for name, spec in DATASETS.items()}
    elif what == "figures":
        from fastplast.paper.registry import FIGURES

        rows = {str(name): figure.shows for name, figure in FIGURES.items()}
    elif what in _NAMES:
        rows = dict(_NAMES[what])
    else:
        rows = dict(DEFINITIONS)
        for name, definitions in DEFINITIONS_ON_REQUEST.items():
            rows |= {column: f"{text} (--metrics {name})" for column, text in definitions.items()}
    width = max(map(len, rows))
    print(fitted("\n".join(f"{name:{width}}  {text}" for name, text in rows.items())))
    return DONE


_NAMES = {
    "activations": {
        "relu": "max(x, 0)",
        "leaky_relu": "x where x > 0, else --leaky-slope times x",
        "tanh": "hyperbolic tangent",
        "identity": "x: a linear network",
        "crelu": "relu of x and of -x, twice as many outputs",
    },
    "optimizers": {
        "adam": "Adam; --weight-decay in the gradient",
        "adamw": "Adam; --weight-decay apart from the gradient",
        "sgd": "gradient descent, with --momentum if given",
    },
    "engines": {
        "auto": "cpu where it can train the network, else vmap",
        "cpu": "kernels for CPU cores, for built-in networks",
        "vmap": "torch.func.vmap on any device, for any nn.Module",
        "cuda": "Triton kernels for built-in networks; has not run on a GPU yet",
    },
}


def _data(options: dict[str, Any]) -> int:
    from fastplast import data

    if options["action"] == "status":
        print(f"data directory  {data.data_dir(options['data_dir'])}")
        for row in data.status(options["data_dir"]):
            state = row.problem or ("verified" if row.verified else "not verified") if row.found else "not found"
            print(fitted(f"{row.name:14} {row.split:6} {row.images:>7,}  {state:12}  {row.source}"))
        return DONE
    name = recognize(options["name"] or "", data.DATASETS, OTHER_NAMES["dataset"])
    if name is None:
        came = "no name" if options["name"] is None else repr(options["name"])
        raise ConfigError(f"data fetch needs a dataset: got {came}. {closest(str(options['name']), data.DATASETS)}")
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was fetched so far is removed
    try:
        print(data.fetch(name, options["source"], options["data_dir"], options["from_path"]))
    finally:
        signal.signal(signal.SIGTERM, before)
    return DONE


def _print_file(write: Callable[[Path], Path]) -> int:
    """Prints what is otherwise written to a file."""
    with tempfile.TemporaryDirectory() as folder:
        data = write(Path(folder, "out")).read_bytes()
    sys.stdout.buffer.write(data)
    sys.stdout.flush()
    return DONE


def _check_paths(paths: Sequence[str]) -> None:
    """Says at once, before anything slow is imported, which path is not there."""
    from fastplast.runs.status import status

    for path in paths:
        if "://" not in path and not Path(path).expanduser().exists():
            status(path)  # whose error says what is there


def _export(options: dict[str, Any]) -> int:
    from fastplast.runs.archive import SUFFIX, write_archive

    _check_suffix(options["out"], ".csv", SUFFIX)
    if options["csv"] and Path(options["out"] or "").suffix == SUFFIX:
        raise ConfigError(f"--csv and --out {options['out']} say two formats. Drop one of them.")
    _check_paths([options["run"]])
    from fastplast.results import open_results

    results = open_results(options["run"])
    if options["out"] == STDOUT:
        return _print_file(results.export_csv)
    out = Path(options["out"] or results.path / "metrics.csv")
    print(write_archive(results, out) if out.suffix == SUFFIX else results.export_csv(out))
    return DONE


def _push(options: dict[str, Any]) -> int:
    _check_paths([options["run"]])
    from fastplast.stores import push

    print(f"{push(options['run'], options['url']):,} files sent to {options['url']}")
    return DONE


def _pull(options: dict[str, Any]) -> int:
    from fastplast.stores import pull

    print(pull(options["url"], options["run"]))
    return DONE


def _srank(options: dict[str, Any]) -> int:
    from itertools import chain

    from fastplast.srank_validation.cases import table, validate_run, validate_spectra, validate_training, write_csv
    from fastplast.srank_validation.figure import plot_validation

    if options["size"] and options["size"] < 60:
        raise ConfigError(f"--size must be 0 or at least 60: got {options['size']}.")
    if options["run"] is None:
        own = {name: options[name] for name in OWN_RUN}
        states = validate_training(Experiment(**own, srank="off"))
    else:
        states = validate_run(options["run"])
    cases = list(chain(states, validate_spectra(options["size"]) if options["size"] else ()))
    wrong = sum(case.violated for case in cases)
    if options["out"] == STDOUT:
        _print_file(partial(write_csv, cases))
        return FAILED if wrong else 0
    print(table(cases))
    print(write_csv(cases, Path(options["out"]) / "validation.csv"))
    print(plot_validation(cases, Path(options["out"]) / "validation.png"))
    print(f"{len(cases)} certificates, {wrong} wrong")
    return FAILED if wrong else 0


def _completion(options: dict[str, Any]) -> int:
    from fastplast.cli.completion import completion

    print(completion(options["shell"]))
    return DONE


def refuse_stdout(command: str, options: dict[str, Any]) -> None:
    """Refuses the hyphen of standard output where several files are written.

    Args:
        command: its name.
        options: from the parser.

    Raises:
        ConfigError: if that is asked for.
    """
    if command in ("train", "sweep", "figure") and options.get("out") == STDOUT:
        raise ConfigError(f"--out of {command} must be a directory: got -. Write ./- for one of that name.")


COMMANDS: dict[str, Callable[[dict[str, Any]], int]] = {
    "train": train.train,
    "resume": train.resume,
    "sweep": train.sweep,
    "status": _status,
    "plot": _plot,
    "figure": _figure,
    "table": _table,
    "report": _report,
    "list": _list,
    "data": _data,
    "export": _export,
    "push": _push,
    "pull": _pull,
    "srank": _srank,
    "completion": _completion,
}
