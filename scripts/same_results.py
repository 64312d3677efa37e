#!/usr/bin/env python
"""Says whether a refactoring changed anything: digests of results, figures, texts and names, before and after it.

Usage: scripts/same_results.py write FILE.json [--only PREFIX ...], before and after, on one machine; then
scripts/same_results.py compare BEFORE.json AFTER.json, which prints every entry that differs. It knows fastplast by
what users know: the names in its documentation and the command line. Numbers depend on the processor and on versions of
packages, so that files of two machines are not to be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from same_results import drawn, errors, inputs, known, resumed, runs, sweeps, texts
from same_results.digests import Entries

# In this order: a method of one's own, once registered, is in the texts of errors and lists of the process.
SECTIONS: dict[str, Callable[[Entries], None]] = {
    "names": known.names,
    "errors known to tests": known.tests,
    "help": texts.helps,
    "lists": texts.lists,
    "errors": errors.wrong_inputs,
    "runs": runs.built_in,
    "own inputs": inputs.own,
    "sweeps": sweeps.grids,
    "resumed": resumed.cut_short,
    "dry runs": texts.dry_runs,
    "statistics": sweeps.statistics,
    "plots": drawn.plots,
    "reports": drawn.reports,
    "exports": drawn.exports,
    "figures": drawn.figures,
    "own method": inputs.own_method,
}


def main() -> int:
    """Runs one of the two commands.

    Returns:
        Exit status: 0, or 1 if something differs.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write", help="write the digests of everything")
    writing.add_argument("file", type=Path)
    writing.add_argument("--only", nargs="+", metavar="PREFIX", help=f"of sections: {', '.join(SECTIONS)}")
    comparing = commands.add_parser("compare", help="say what differs between two files; exit status 1 if anything")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    options = parser.parse_args()
    return write(options.file, options.only) if options.command == "write" else compare(options.before, options.after)


def write(file: Path, only: list[str] | None) -> int:
    """Writes the digests, each section in an empty directory of its own.

    Args:
        file: JSON: name to digest or text.
        only: beginnings of the names of sections; all if None.

    Returns:
        Exit status: 1 if a section failed.
    """
    file, entries, begun, failed = file.resolve(), {}, time.monotonic(), False
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="same_results-") as folder:
        _settle(Path(folder))
        for name, section in SECTIONS.items():
            if only and not name.startswith(tuple(only)):
                continue
            place, start, found = Path(folder) / name.replace(" ", "_"), time.monotonic(), Entries()
            place.mkdir()
            os.chdir(place)
            try:
                section(found)
            except Exception as error:  # the other sections are of use all the same
                traceback.print_exc()
                found["FAILED"], failed = f"{type(error).__name__}: {error}", True
            entries |= {f"{name}/{key}": value for key, value in found.items()}
            print(f"{name}: {len(found)} entries, {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
        os.chdir(file.parent)
    file.write_text(json.dumps(entries, indent=0, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{file}: {len(entries)} entries, {time.monotonic() - begun:.0f} s", file=sys.stderr)
    return int(failed)


def _settle(folder: Path) -> None:
    """What results and texts may depend on, the same everywhere, for this process and those it starts."""
    (folder / "data").mkdir()
    os.environ |= {
        "FASTPLAST_DATA": str(folder / "data"),  # empty: the images of the package
        "COLUMNS": "100",  # of help
        "NO_COLOR": "1",
        "GIT_DIR": str(folder / "none"),  # else commit and state of the checkout are in captions, and break their lines
        "MPLBACKEND": "agg",
    }


def compare(before: Path, after: Path) -> int:
    """Prints the names of all entries that differ.

    Args:
        before: written by ``write``.
        after: likewise.

    Returns:
        0 if all are equal, else 1.
    """
    old, new = (json.loads(path.read_text(encoding="utf-8")) for path in (before, after))
    count = 0
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            print(f"missing  {name}")
        elif name not in old:
            print(f"new      {name}")
        elif old[name] != new[name]:
            print(f"differs  {name}\n  before {old[name]}\n  after  {new[name]}")
        else:
            continue
        count += 1
    print(f"{count} entries are not the same" if count else f"{len(old)} entries, all equal")
    return int(bool(count))


if __name__ == "__main__":
    sys.exit(main())
