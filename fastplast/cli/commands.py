"""What each command does: options from the parser -> config -> call -> exit status."""

from __future__ import annotations

import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from fastplast.cli.flags import fields_from, option_help, pairs_of, values_of
from fastplast.cli.signals import stopping
from fastplast.config import (
    BENCHMARKS,
    MACHINE_FIELDS,
    METHOD_OPTIONS,
    ConfigError,
    Experiment,
    flag,
    load_config,
    option_fields,
)
from fastplast.text import closest

FAILURE, ALL_DIVERGED, TRANSIENT_FAILURE, INTERRUPTED = 1, 3, 75, 130
STDOUT = "-"
PLOT_OPTIONS = ("row", "col", "hue", "style", "best", "log", "title", "members", "band", "caption")
OWN_RUN = {"benchmark": "mnist_shuffle", "activation": "relu", "seeds": 2, "tasks": 2, "epochs": 20}


def _train(options: dict[str, Any]) -> int:
    path = options.get("config")
    values = load_config(path) if path else {}
    experiment = Experiment.from_dict(values | fields_from(options), str(path) if path else "configuration")
    if (experiment.network or "").startswith("module:"):
        raise ConfigError(f"--network {experiment.network} is a module of its author's: train it with fastplast.train.")
    if options["dry_run"]:
        from fastplast.training.dry_run import dry_run

        print(dry_run(experiment, options["memory"]))
        return 0
    if options["memory"] is not None:
        raise ConfigError("--memory of train belongs to --dry-run: got no --dry-run. Add it, or use fastplast sweep.")
    from fastplast.training.start import start

    _check_views(options)
    with stopping() as stop:
        setup, events = start(experiment, stop=stop)
        return _follow(setup, events, options)


def _sweep(options: dict[str, Any]) -> int:
    from fastplast.sweeps import make_plan, parse_slice, read_grid

    flags = {name: options[name] for name in Experiment.__dataclass_fields__ if name in options and name != "out"}
    flags |= {name: options[name] for name, _, _ in option_fields() if name in options}
    several = ("widths", "channels", "learning_rate", "strength", "seeds", *(name for name, _, _ in option_fields()))
    for name in several:
        if name in flags:
            flags[name] = values_of(name, flags[name])
    grid = read_grid(options["grid"], flags)
    out = options.get("out") or _sweep_directory(grid)
    part = parse_slice(options["shard"]) if options["shard"] else (0, 1)
    plan = make_plan(grid, out, part=part, memory=options["memory"], batch=options["batch"])
    if options["dry_run"]:
        from fastplast.sweeps.dry_run import dry_run

        print(dry_run(plan))
        return 0
    _check_views(options)
    with stopping() as stop:
        return _run_plan(plan, options, stop)


def _run_plan(plan: Any, options: dict[str, Any], stop: Callable[[], bool]) -> int:
    """Trains the shards of a plan; the exit status says whether all are finished."""
    from fastplast.sweeps import address_of, execute, execute_on_cluster
    from fastplast.sweeps.dry_run import summarize

    if not options["quiet"]:
        print(summarize(plan), flush=True)
    retry_failed, failed = options.get("retry_failed", False), []
    if options.get("cluster"):
        tell = (lambda text: None) if options["quiet"] else partial(print, flush=True)
        execute_on_cluster(plan, address_of(options["cluster"]), stop, tell, retry_failed)
        return _report_failures(plan, stop)
    for number, (_, setup, events) in enumerate(execute(plan, stop, failed, retry_failed), 1):
        if not options["quiet"]:
            print(f"shard {number}/{len(plan.shards)}", flush=True)
        if _follow(setup, events, options) == INTERRUPTED:
            return INTERRUPTED
    return _report_failures(plan, stop)


def _report_failures(plan: Any, stop: Callable[[], bool]) -> int:
    """Says which shards of a plan failed, and how to go on; the exit status says whether all are finished."""
    from fastplast.runs.ledger import read_failures

    if stop():
        return INTERRUPTED
    failures = read_failures(plan.directory)
    names = [shard.path.name for shard in plan.shards if shard.path.name in failures]
    for name in names:
        print(f"fastplast: shard {name} failed: {failures[name].error}", file=sys.stderr)
    if not names:
        return 0
    again = " --retry-failed" * (not all(failures[name].is_transient for name in names))
    place = shlex.quote(str(plan.directory))
    print(f"{len(names)} of {len(plan.shards)} shards failed. Again: fastplast resume {place}{again}", file=sys.stderr)
    return FAILURE if again else TRANSIENT_FAILURE


def _sweep_directory(grid: Any) -> str:
    """The same for the same benchmarks, so that a sweep typed again, or with more values, finds what there is."""
    names: list[str] = []
    for cross in grid:
        value = cross.values.get("benchmark", Experiment.__dataclass_fields__["benchmark"].default)
        names += [value] if isinstance(value, str) else list(value)
    return f"runs/sweep-{'-'.join(dict.fromkeys(map(str, names)))}"


def _resume(options: dict[str, Any]) -> int:
    from fastplast.runs.paths import is_sweep
    from fastplast.training.start import proceed

    _check_views(options)
    changes = {name: value for name, value in fields_from(options).items() if name != "out"}
    if is_sweep(options["run"]):
        return _resume_sweep(options, changes)
    for name in ("shard", "cluster", "retry_failed"):
        if options[name]:
            raise ConfigError(f"{flag(name)} of resume must be of a sweep: got the run {options['run']}. Leave it out.")
    with stopping() as stop:
        setup, events = proceed(options["run"], stop=stop, **changes)
        return _follow(setup, events, options)


def _resume_sweep(options: dict[str, Any], changes: dict[str, Any]) -> int:
    # Trains what a sweep directory lacks of everything that was asked of it.
    from fastplast.sweeps import make_plan, parse_slice, read_request

    for name in changes:
        if name not in MACHINE_FIELDS:
            raise ConfigError(
                f"{flag(name)} of a sweep is in its grid: got another on resume. Extend a sweep with fastplast sweep."
            )
    part = parse_slice(options["shard"]) if options["shard"] else (0, 1)
    plan = make_plan(read_request(options["run"], changes), options["run"], part=part)
    with stopping() as stop:
        return _run_plan(plan, options, stop)


def _check_views(options: dict[str, Any]) -> None:
    if _is_watched(options):
        from fastplast.tracking import Views, check

        check(Views(options.get("tensorboard"), options.get("wandb")))


def _is_watched(options: dict[str, Any]) -> bool:
    """Whether a view was asked for; without one nothing of it is imported, statistics and plots among it."""
    return options.get("tensorboard") is not None or options.get("wandb") is not None


def _follow(setup: Any, events: Iterator[Any], options: dict[str, Any]) -> int:
    """Shows events as they come; the exit status says whether the run is finished."""
    from fastplast.cli.progress import show
    from fastplast.training.loop import Stopped

    stopped, diverged = False, 0
    if _is_watched(options):
        from fastplast.tracking import Views, watch

        events = watch(setup, events, Views(options.get("tensorboard"), options.get("wandb")))
    for event in show(setup, events, options["quiet"]):
        stopped = isinstance(event, Stopped)
        diverged = getattr(event, "diverged", diverged)
    if stopped:
        return INTERRUPTED
    if diverged < (members := len(setup.group.members)):
        return 0
    print(f"fastplast: all {members:,} members diverged: {setup.experiment.out}", file=sys.stderr)
    return ALL_DIVERGED


def _status(options: dict[str, Any]) -> int:
    import json

    from fastplast.runs.status import status
    from fastplast.runs.status_text import as_json, as_text

    found = status(options["run"])
    print(json.dumps(as_json(found, options["run"])) if options["json"] else as_text(found, options["run"]))
    return 0


def _plot(options: dict[str, Any]) -> int:
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
    return 0


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
    from fastplast import paper

    if options["list"]:
        print(paper.list_figures())
        return 0
    if options["figure"] is None:
        raise ConfigError("figure needs a number or a name: got none. `fastplast figure --list` lists them.")
    where = pairs_of("where", options["where"], several=True)
    metrics = pairs_of("metric", options["metric"])
    figure = paper.adapt(paper.figure_of(options["figure"]), where, options["lines"], options["x"], metrics)
    given = options["from_paths"]
    if options["dry_run"]:
        print(paper.preview(figure, options["scale"], given))
        return 0
    if given is None:
        with stopping() as stop:
            for plan in paper.plan_missing(figure, options["scale"]):
                if status := _run_plan(plan, options, stop):
                    return status
    for path in paper.draw_figure(figure, given, options["scale"], options["out"], options["formats"]):
        print(path)
    return 0


def _report(options: dict[str, Any]) -> int:
    from fastplast.reports import report

    if options["out"] == STDOUT:
        return _print_file(partial(report, options["runs"]))
    print(report(options["runs"], options["out"]))
    return 0


def _list(options: dict[str, Any]) -> int:
    what = options["what"]
    if what == "benchmarks":
        rows = {
            k: f"{v['dataset'] or 'any dataset'}, {v['change']}, {v['tasks']} tasks, {v['network']}"
            for k, v in BENCHMARKS.items()
        }
    elif what == "networks":
        from fastplast.networks import NETWORKS

        rows = {name: preset.summary for name, preset in NETWORKS.items()}
    elif what == "methods":
        from fastplast.methods import METHODS

        rows = {}
        for name, method in METHODS.items():
            rows[name] = method.summary + (f" ({method.reference})" if method.reference else "")
            options = METHOD_OPTIONS.get(name, {})
            rows |= {flag(f"{name}_{own}"): option_help(option) for own, option in options.items()}
    else:
        from fastplast.config import METRIC_NAMES
        from fastplast.measuring import METRICS
        from fastplast.measuring.definitions import DEFINITIONS

        rows = dict(DEFINITIONS)
        for name in METRIC_NAMES:
            rows |= {column: f"{text} (--metrics {name})" for column, text in METRICS[name].definitions(name).items()}
    width = max(map(len, rows))
    for name, text in rows.items():
        print(f"{name:{width}}  {text}")
    return 0


def _data(options: dict[str, Any]) -> int:
    from fastplast import data

    if options["action"] == "status":
        print(f"data directory  {data.data_dir(options['data_dir'])}")
        for row in data.status(options["data_dir"]):
            state = row.problem or ("verified" if row.verified else "not verified") if row.found else "not found"
            print(f"{row.name:14} {row.split:6} {row.images:>7,}  {state:12}  {row.source}")
        return 0
    if options["name"] not in data.DATASETS:
        came = "no name" if options["name"] is None else repr(options["name"])
        raise ConfigError(f"data fetch needs a dataset: got {came}. {closest(str(options['name']), data.DATASETS)}")
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was fetched so far is removed
    try:
        print(data.fetch(options["name"], options["source"], options["data_dir"], options["from_path"]))
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _print_file(write: Callable[[Path], Path]) -> int:
    """Prints what is otherwise written to a file."""
    with tempfile.TemporaryDirectory() as folder:
        data = write(Path(folder, "out")).read_bytes()
    sys.stdout.buffer.write(data)
    sys.stdout.flush()
    return 0


def _export(options: dict[str, Any]) -> int:
    from fastplast.results import open_results
    from fastplast.runs.archive import SUFFIX, write_archive

    results = open_results(options["run"])
    if options["out"] == STDOUT:
        return _print_file(results.export_csv)
    out = Path(options["out"] or results.path / "metrics.csv")
    print(write_archive(results, out) if out.suffix == SUFFIX else results.export_csv(out))
    return 0


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
        return FAILURE if wrong else 0
    print(table(cases))
    print(write_csv(cases, Path(options["out"]) / "validation.csv"))
    print(plot_validation(cases, Path(options["out"]) / "validation.png"))
    print(f"{len(cases)} certificates, {wrong} wrong")
    return FAILURE if wrong else 0


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
    "train": _train,
    "resume": _resume,
    "sweep": _sweep,
    "status": _status,
    "plot": _plot,
    "figure": _figure,
    "report": _report,
    "list": _list,
    "data": _data,
    "export": _export,
    "srank": _srank,
}
