"""The command line: a command, from the words that were typed to its exit status."""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Sequence

from fastplast.cli.commands import COMMANDS, FAILURE, INTERRUPTED, refuse_stdout
from fastplast.cli.parser import build_parser
from fastplast.config import ConfigError

_USAGE = 2


def run(arguments: Sequence[str]) -> int:
    """Runs one command.

    Args:
        arguments: the words after ``fastplast``.

    Returns:
        Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without a letter of a file's name
    options = vars(build_parser().parse_args(arguments))
    command, debug = options.pop("command"), options.pop("debug", False)
    try:
        refuse_stdout(command, options)
        return COMMANDS[command](options)
    except ConfigError as error:
        return _fail(error, debug, _USAGE)
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        return _fail(error, debug, FAILURE)
    except KeyboardInterrupt:
        print("fastplast: stopped.", file=sys.stderr)
        return INTERRUPTED


def _fail(error: Exception, debug: bool, status: int) -> int:
    if debug:
        traceback.print_exception(error)
    print(f"fastplast: {error}", file=sys.stderr)
    return status
