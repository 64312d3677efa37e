"""The command line: a command, from the words that were typed to its exit status."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import traceback
from collections.abc import Sequence

from fastplast.cli.arguments import check_flags, check_single_values, with_hyphens
from fastplast.cli.commands import COMMANDS, refuse_stdout
from fastplast.cli.exit_codes import FAILED, INTERRUPTED, TRANSIENT_FAILURE, USAGE
from fastplast.cli.output import TRAINING, lasting_output
from fastplast.cli.parser import build_parser, command_parsers
from fastplast.config import ConfigError
from fastplast.config.errors import naming_flags
from fastplast.runs.files import TRANSIENT
from fastplast.text import closest


def run(arguments: Sequence[str]) -> int:
    """Runs one command.

    Args:
        arguments: the words after ``fastplast``.

    Returns:
        Exit status, one of ``EXIT_CODES``.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without a letter of a file's name
    words = with_hyphens(arguments)
    if not words:
        build_parser().print_help()
        return USAGE
    if words[0] == "help":
        words = [*words[1:2], "--help"]
    with naming_flags(), lasting_output() if words[0] in TRAINING else contextlib.nullcontext():
        return _run(words, debug="--debug" in words)


def _run(words: Sequence[str], debug: bool) -> int:
    try:
        options = vars(parse(words))
        options.pop("debug", False)
        command = options.pop("command")
        refuse_stdout(command, options)
        return COMMANDS[command](options)
    except ConfigError as error:
        return _fail(error, debug, USAGE)
    except (ValueError, TypeError, OSError, ImportError, RuntimeError, MemoryError) as error:
        is_transient = words[0] in TRAINING and getattr(error, "errno", None) in TRANSIENT
        return _fail(error, debug, TRANSIENT_FAILURE if is_transient else FAILED)
    except KeyboardInterrupt:
        print("fastplast: stopped.", file=sys.stderr)
        return INTERRUPTED


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The options of a command.

    Args:
        words: that were typed, flags with hyphens.

    Returns:
        What the parser makes of them.

    Raises:
        ConfigError: if there is no such command or flag, or a value is wrong.
    """
    parser, command = build_parser(), words[0]
    if command.startswith("-"):
        check_flags(words, parser, "")
    elif command not in COMMANDS:
        raise ConfigError(f"fastplast has no command {command!r}. {closest(command, COMMANDS)}")
    else:
        sub = command_parsers(parser)[command]
        check_flags(words[1:], sub, command)
        if command == "train":
            check_single_values(words[1:], sub)
    return parser.parse_args(words)


def _fail(error: Exception, debug: bool, status: int) -> int:
    if debug:
        traceback.print_exception(error)
    text = (
        f"{error}" if not isinstance(error, MemoryError) else f"memory does not suffice: {error}. Use fewer or smaller."
    )
    print(f"fastplast: {text}", file=sys.stderr)
    return status
