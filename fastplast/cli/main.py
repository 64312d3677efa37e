"""The command line: a command, from the words that were typed to its exit status."""

from __future__ import annotations

import contextlib
import io
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from fastplast.cli.commands import COMMANDS, FAILURE, INTERRUPTED, TRANSIENT_FAILURE, refuse_stdout
from fastplast.cli.output import TRAINING, lasting_output
from fastplast.cli.parser import build_parser
from fastplast.config import ConfigError
from fastplast.runs.files import TRANSIENT

_USAGE = 2


def run(arguments: Sequence[str]) -> int:
    """Runs one command.

    Args:
        arguments: the words after ``fastplast``.

    Returns:
        Exit status: 0 done, 1 failed, 2 wrong usage, 3 all members diverged, 75 failed for a reason that may go, such
            as a full disk, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without a letter of a file's name
    options = vars(build_parser().parse_args(arguments))
    command, debug = options.pop("command"), options.pop("debug", False)
    with lasting_output() if command in TRAINING else contextlib.nullcontext():
        return _run(command, options, debug)


def _run(command: str, options: dict[str, Any], debug: bool) -> int:
    try:
        refuse_stdout(command, options)
        return COMMANDS[command](options)
    except ConfigError as error:
        return _fail(error, debug, _USAGE)
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        is_transient = command in TRAINING and getattr(error, "errno", None) in TRANSIENT
        return _fail(error, debug, TRANSIENT_FAILURE if is_transient else FAILURE)
    except KeyboardInterrupt:
        print("fastplast: stopped.", file=sys.stderr)
        return INTERRUPTED


def _fail(error: Exception, debug: bool, status: int) -> int:
    if debug:
        traceback.print_exception(error)
    print(f"fastplast: {error}", file=sys.stderr)
    return status
