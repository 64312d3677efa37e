"""Tries faults on small runs and writes the table of docs/reliability.md: ``python scripts/faults/measure.py --write``.

Ends with status 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from pathlib import Path

import torch
from contents import files_of_a_run, inputs
from interruptions import full_disks, kills, power_cuts, two_processes
from trained import Row

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
COUNTS = {kills: 200, full_disks: 1000, power_cuts: 1000, two_processes: 30, files_of_a_run: 1000, inputs: 2000}


def measure(share: float) -> list[Row]:
    """Tries everything.

    Args:
        share: of the numbers in ``COUNTS``.

    Returns:
        A row for each fault.
    """
    rows: list[Row] = []
    for function, count in COUNTS.items():
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            begun = time.monotonic()
            found = function(Path(folder).resolve(), max(int(share * count), 2))
            rows += found if isinstance(found, list) else [found]
            print(f"{function.__name__}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return rows


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| tried | times | right | otherwise |", "|---|---:|---|---:|"]
    lines += [f"| {row.what} | {row.tried:,} | {row.right} | {len(row.wrong)} |" for row in rows]
    return "\n".join(lines)


def main() -> int:
    """Prints the table, or writes it into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the numbers of tries")
    parser.add_argument("--write", action="store_true", help="write the table into docs/reliability.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(options.share)
    versions = f"Python {platform.python_version()} and PyTorch {torch.__version__} on {platform.machine()}"
    text = f"Tried with {versions}, Linux.\n\n{table(rows)}"
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    print(text)
    for row in rows:
        for wrong in row.wrong[:10]:
            print(f"wrong: {row.what}: {wrong[:300]}", file=sys.stderr)
    return any(row.wrong for row in rows)


if __name__ == "__main__":
    sys.exit(main())
