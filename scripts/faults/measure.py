"""Tries faults on small runs; ``python scripts/faults/measure.py --write`` writes the table of docs/reliability.md.

What was counted is kept in docs/results/faults.json as it goes: whoever stops the script loses about a minute, and the
next call goes on. Ends with status 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import page
import torch
from clusters import cluster_kills
from contents import files_of_runs, inputs
from interruptions import full_disks, kills, power_cuts, two_processes
from trained import Row

COUNTS = {kills: 200, full_disks: 1000, power_cuts: 1000, two_processes: 30, cluster_kills: 10}
COUNTS |= {files_of_runs: 1000, inputs: 100_000}
CHUNK, CHUNK_SECONDS = 8, 60.0  # tries at once, doubled while they take less
MEMORY = Path("/dev/shm")  # where there is one: what is read thousands of times needs no disk


def go_on(kind: Callable[[Path, int, int], Row | list[Row]], count: int, results: Path, most: int = CHUNK) -> None:
    """Tries a kind of fault until it was tried often enough, or there is no more of it to try.

    Args:
        kind: of fault.
        count: how often in all.
        results: where what was found is kept.
        most: how often at first before that is done.
    """
    place = MEMORY if kind in (files_of_runs, inputs) and os.access(MEMORY, os.W_OK) else None
    while True:
        before = page.counted(results).get(kind.__name__, [])
        tried = min((row.tried for row in before), default=0)
        if tried >= count:
            return
        begun = time.monotonic(), sum(os.times()[:4])  # of this process and of those that it started
        with tempfile.TemporaryDirectory(prefix="faults-", dir=place) as folder:
            found = kind(Path(folder).resolve(), min(most, count - tried), tried)
        rows = found if isinstance(found, list) else [found]
        if all(row.tried == 0 for row in rows):
            return
        for row, earlier in zip(rows, before):
            row.tried, row.wrong = row.tried + earlier.tried, earlier.wrong + row.wrong
        page.keep(results, kind.__name__, rows)
        took, cpu = time.monotonic() - begun[0], sum(os.times()[:4]) - begun[1]
        most *= 1 + (took < CHUNK_SECONDS)
        print(f"{kind.__name__}: {rows[0].tried:,} in all, {took:.0f} s, {cpu:.0f} s of a core", flush=True)


def main() -> int:
    """Tries what is left to try, or writes the table into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = {kind.__name__: kind for kind in COUNTS}
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of fault, by default all: {', '.join(names)}")
    parser.add_argument("--share", type=float, default=1.0, help="of the numbers of tries")
    parser.add_argument("--again", action="store_true", help="forget what was counted of these kinds")
    parser.add_argument("--results", type=Path, default=page.RESULTS, help="where what was counted is kept")
    parser.add_argument("--write", action="store_true", help="try nothing more; write the table into the page")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.write:
        for name in options.kinds or names:
            if options.again:
                page.keep(options.results, name, [])
            go_on(names[name], max(int(options.share * COUNTS[names[name]]), 2), options.results)
    rows = [row for rows in page.counted(options.results).values() for row in rows]
    if options.write:
        page.write_page(options.results)
    print(page.table(rows))
    for row in rows:
        for wrong in row.wrong[:10]:
            print(f"wrong: {row.what}: {wrong[:300]}", file=sys.stderr)
    return any(row.wrong for row in rows)


if __name__ == "__main__":
    sys.exit(main())
