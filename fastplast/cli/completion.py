"""Completion of commands, flags and names in a shell, by the package shtab."""

from __future__ import annotations

from fastplast.config import Experiment, flag


def completion(shell: str) -> str:
    """The script that a shell reads.

    Args:
        shell: ``bash``, ``zsh`` or ``tcsh``.

    Returns:
        Its text.

    Raises:
        ImportError: if shtab is missing; the text says how to install it.
    """
    try:
        import shtab  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            f"fastplast completion needs the package shtab: got {error}. Install it with `pip install shtab`."
        ) from error
    from fastplast.cli.arguments import flags_of
    from fastplast.cli.parser import build_parser, command_parsers

    parser = build_parser()
    for sub in command_parsers(parser).values():
        flags = flags_of(sub)
        for name, field in Experiment.__dataclass_fields__.items():
            if field.metadata["choices"] and flag(name) in flags:
                flags[flag(name)].choices = field.metadata["choices"]
    return shtab.complete(parser, shell)
