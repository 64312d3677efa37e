"""Commands that train: options from the parser -> configuration -> training -> exit status."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastplast.cli.exit_codes import ALL_DIVERGED, DONE, FAILED, INTERRUPTED, TRANSIENT_FAILURE
from fastplast.cli.flags import fields_from, values_of
from fastplast.cli.signals import stopping
from fastplast.config import MACHINE_FIELDS, ConfigError, Experiment, check_effects, flag, load_config, option_fields
from fastplast.text import duration, fitted

if TYPE_CHECKING:
    from fastplast.sweeps import SweepPlan

_ASK_FROM = 3600.0  # seconds


def train(options: dict[str, Any]) -> int:
    """``fastplast train``.

    Raises:
        ConfigError: if options do not fit together.
    """
    path = options.get("config")
    values = _read_config(path) if path else {}
    experiment = Experiment.from_dict(values | fields_from(options), str(path) if path else "configuration")
    check_effects(experiment)
    if (experiment.network or "").startswith("module:"):
        raise ConfigError(f"--network {experiment.network} is a module of its author's: train it with fastplast.train.")
    if options["dry_run"]:
        from fastplast.training.dry_run import dry_run

        print(fitted(dry_run(experiment, options["memory"])))
        return DONE
    if options["memory"] is not None:
        raise ConfigError("--memory of train belongs to --dry-run: got no --dry-run. Add it, or use fastplast sweep.")
    from fastplast.training.start import start

    check_views(options)
    if not _agree(_seconds_of(experiment, options), options):
        return INTERRUPTED
    with stopping() as stop:
        setup, events = start(experiment, stop=stop)
        return follow(setup, events, options)


def _read_config(path: str) -> dict[str, Any]:
    suffix = Path(path).suffix
    if suffix == ".toml":
        from fastplast.toml_files import read_toml

        return {name.replace("-", "_"): value for name, value in read_toml(Path(path), "--config").items()}
    if suffix not in ("", ".json"):
        raise ConfigError(f"--config must be JSON or TOML, and be named so: got {path}. Write it in one of them.")
    return load_config(path)


def sweep(options: dict[str, Any]) -> int:
    """``fastplast sweep``."""
    from fastplast.sweeps import make_plan, parse_slice, read_grid

    fields = Experiment.__dataclass_fields__
    flags = {name: options[name] for name in fields if name in options and name != "out"}
    flags |= {name: options[name] for name, _, _ in option_fields() if name in options}
    several = {"widths", "channels", "learning_rate", "strength", "seeds", *(name for name, _, _ in option_fields())}
    several |= {name for name, f in fields.items() if f.metadata["choices"]}
    for name in flags:
        if name in several and isinstance(flags[name], list):
            flags[name] = values_of(name, flags[name])
    check_cluster(options)
    grid = read_grid(options["grid"], flags)
    out = options.get("out") or sweep_directory(grid)
    part = parse_slice(options["shard"]) if options["shard"] else (0, 1)
    plan = make_plan(grid, out, part=part, memory=options["memory"], batch=options["batch"])
    if options["dry_run"]:
        from fastplast.sweeps.dry_run import dry_run

        print(fitted(dry_run(plan)))
        return DONE
    check_views(options)
    return run_plan(plan, options, _resume_sweep_words(out, options))


def sweep_directory(grid: Any) -> str:
    """The default directory of a grid: one for each problem.

    The same for the same benchmarks with the same settings of the problem but tasks, so that a sweep typed again, or
    with more values, or longer, finds what there is; and another for other settings, such as those of a short trial.
    """
    import hashlib
    import json

    names: list[str] = []
    settings: list[dict[str, Any]] = []
    fields = Experiment.__dataclass_fields__
    for cross in grid:
        value = cross.values.get("benchmark", fields["benchmark"].default)
        names += [value] if isinstance(value, str) else list(value)
        problem = {n: v for n, v in cross.values.items() if n in fields and fields[n].metadata["group"] == "problem"}
        settings.append({n: v for n, v in problem.items() if n not in ("benchmark", "tasks", "data_dir")})
    base = f"runs/sweep-{'-'.join(dict.fromkeys(map(str, names)))}"
    if not any(settings):
        return base
    told = json.dumps(settings, sort_keys=True, default=str)
    return f"{base}-{hashlib.sha256(told.encode()).hexdigest()[:6]}"


def _resume_sweep_words(out: object, options: Mapping[str, Any]) -> str:
    shard = f" --shard {options['shard']}" if options.get("shard") else ""
    return f"fastplast resume {shlex.quote(str(out))}{shard}"


def run_plan(plan: SweepPlan, options: dict[str, Any], again: str) -> int:
    """Trains the shards of a plan. Until the first begins, signals end the program at once, as nothing is written yet.

    Args:
        plan: what to train.
        options: of the command.
        again: the command that goes on with all of it.

    Returns:
        Exit status: whether all shards are finished.
    """
    from fastplast.sweeps.dry_run import seconds_if_long, summarize

    if not options["quiet"]:
        print(fitted(summarize(plan)), flush=True)
        if not _agree(seconds_if_long(plan), options):
            return INTERRUPTED
    with stopping() as stop:
        return _train_shards(plan, options, stop, again)


def _train_shards(plan: SweepPlan, options: dict[str, Any], stop: Callable[[], bool], again: str) -> int:
    from fastplast.sweeps import address_of, execute, execute_on_cluster

    retry_failed, failed = options.get("retry_failed", False), []
    if options.get("cluster"):
        tell = (lambda text: None) if options["quiet"] else partial(print, flush=True)
        execute_on_cluster(plan, address_of(options["cluster"]), stop, tell, retry_failed, options.get("store"))
        return _end_plan(plan, stop, options)
    for number, (_, setup, events) in enumerate(execute(plan, stop, failed, retry_failed), 1):
        if not options["quiet"]:
            print(f"shard {number}/{len(plan.shards)}", flush=True)
        if follow(setup, events, options, again, is_part=True) == INTERRUPTED:
            return INTERRUPTED
    return _end_plan(plan, stop, options)


def _end_plan(plan: SweepPlan, stop: Callable[[], bool], options: dict[str, Any]) -> int:
    """Says which shards of a plan failed and how to go on, or what draws all; the exit status says which."""
    from fastplast.progress import plot_command
    from fastplast.runs.ledger import read_failures

    if stop():
        return INTERRUPTED
    failures = read_failures(plan.directory)
    names = [shard.path.name for shard in plan.shards if shard.path.name in failures]
    for name in names:
        print(f"fastplast: shard {name} failed: {failures[name].error}", file=sys.stderr)
    if not names:
        if not options["quiet"] and plan.shards:
            print(f"Figure: {plot_command(plan.directory, plan.shards[0].experiment)}", flush=True)
        return DONE
    again = " --retry-failed" * (not all(failures[name].is_transient for name in names))
    place = shlex.quote(str(plan.directory))
    print(f"{len(names)} of {len(plan.shards)} shards failed. Again: fastplast resume {place}{again}", file=sys.stderr)
    return FAILED if again else TRANSIENT_FAILURE


def resume(options: dict[str, Any]) -> int:
    """``fastplast resume``.

    Raises:
        ConfigError: if options do not fit together.
    """
    from fastplast.runs.paths import is_sweep
    from fastplast.runs.status import status

    of_sweep = is_sweep(options["run"])
    if of_sweep:
        check_cluster(options)
    check_views(options)
    changes = {name: value for name, value in fields_from(options).items() if name != "out"}
    if of_sweep:
        return _resume_sweep(options, changes)
    for name in ("shard", "cluster", "retry_failed"):
        if options[name]:
            raise ConfigError(f"{flag(name)} of resume must be of a sweep: got the run {options['run']}. Leave it out.")
    found = status(options["run"])
    is_longer = "tasks" in changes
    if not isinstance(found, list):
        if found.state == "finished" and not changes and not _has_onlookers(options):
            if not options["quiet"]:
                print(f"{options['run']} is finished: all {found.tasks} tasks. --tasks N goes on to more.")
            return DONE
        if not is_longer and not _agree(found.seconds_left or 0.0, options):
            return INTERRUPTED
    from fastplast.training.start import proceed

    with stopping() as stop:
        setup, events = proceed(options["run"], stop=stop, **changes)
        return follow(setup, events, options)


def _resume_sweep(options: dict[str, Any], changes: dict[str, Any]) -> int:
    # Trains what a sweep directory lacks of everything that was asked of it.
    from fastplast.sweeps import make_plan, parse_slice, read_request

    for name in changes:
        if name not in (*MACHINE_FIELDS, "tasks"):
            raise ConfigError(
                f"{flag(name)} of a sweep is in its grid: got another on resume. Extend a sweep with fastplast sweep."
            )
    part = parse_slice(options["shard"]) if options["shard"] else (0, 1)
    plan = make_plan(read_request(options["run"], changes), options["run"], part=part)
    return run_plan(plan, options, _resume_sweep_words(options["run"], options))


def _seconds_of(experiment: Experiment, options: Mapping[str, Any]) -> float:
    """How long an experiment will take; 0 where that is surely less than an hour, or nobody is told."""
    from fastplast.data import load
    from fastplast.training.estimate import estimate_seconds, may_take_an_hour

    if options["quiet"] or not may_take_an_hour(experiment):
        return 0.0
    return estimate_seconds(experiment, load(experiment.resolved().dataset, experiment.data_dir))


def _agree(seconds: float, options: Mapping[str, Any]) -> bool:
    """Says how long something takes, where that is more than an hour, and on a terminal asks whether to begin."""
    if seconds <= _ASK_FROM or options["quiet"]:
        return True
    print(f"This takes at most about {duration(seconds)}, from rates measured now.", flush=True)
    if options["yes"] or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return True
    try:
        answer = input("Begin? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().casefold() in ("y", "yes"):
        return True
    print("Nothing was begun.")
    return False


def check_views(options: dict[str, Any]) -> None:
    """Makes sure that the live views that are asked for can be shown, and the store can be written."""
    if options.get("store") is not None:
        from fastplast.stores import check_store

        check_store(options["store"])
    if _is_watched(options):
        from fastplast.tracking import Views, check

        check(Views(options.get("tensorboard"), options.get("wandb")))


def check_cluster(options: dict[str, Any]) -> None:
    """Makes sure, before anything is planned, that ``--cluster`` is one, and refuses what it leaves without effect.

    Args:
        options: of a command that trains sweeps.

    Raises:
        ConfigError: naming the option.
    """
    if not (cluster := options.get("cluster")):
        return
    from fastplast.sweeps import address_of

    for name in ("tensorboard", "wandb"):  # which the processes on the cluster do not write
        if options.get(name) is not None:
            raise ConfigError(
                f"{flag(name)} belongs to training in this process, and does nothing otherwise: got {options[name]} "
                f"with --cluster {cluster}. Drop it; `fastplast resume SHARD {flag(name)} ...` shows a finished shard."
            )
    address_of(cluster)


def _is_watched(options: dict[str, Any]) -> bool:
    """Whether a view was asked for; without one nothing of it is imported, statistics and plots among it."""
    return options.get("tensorboard") is not None or options.get("wandb") is not None


def _has_onlookers(options: dict[str, Any]) -> bool:
    """Whether somebody takes what a finished run holds."""
    return _is_watched(options) or options.get("store") is not None


def follow(
    setup: Any, events: Iterator[Any], options: dict[str, Any], again: str | None = None, is_part: bool = False
) -> int:
    """Shows events as they come.

    Args:
        setup: of the run.
        events: of the run.
        options: of the command.
        again: the command that goes on with all of it; resuming the run if None.
        is_part: whether it is one of several runs.

    Returns:
        Exit status: whether the run is finished.
    """
    from fastplast.progress import show
    from fastplast.training.loop import Stopped

    stopped, diverged = False, 0
    if _is_watched(options):
        from fastplast.tracking import Views, watch

        events = watch(setup, events, Views(options.get("tensorboard"), options.get("wandb")))
    if options.get("store") is not None:
        from fastplast.training.start import run_directory
        from fastplast.training.storing import storing

        events = storing(run_directory(setup.experiment), events, options["store"])
    for event in show(setup, events, options["quiet"], again, is_part):
        stopped = isinstance(event, Stopped)
        diverged = getattr(event, "diverged", diverged)
    if stopped:
        return INTERRUPTED
    if diverged < (members := len(setup.group.members)):
        return DONE
    print(f"fastplast: all {members:,} members diverged: {setup.experiment.out}", file=sys.stderr)
    return ALL_DIVERGED
