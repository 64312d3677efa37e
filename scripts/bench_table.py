"""Turns the JSON of pytest-benchmark into Markdown tables: what was timed side by side, and ratios to the first row."""

from __future__ import annotations

import json
import platform
import re
import sys
from pathlib import Path
from typing import Any


def machine() -> str:
    """A short name of this machine: its processor and the number of cores."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"model name\s*:\s*(.*)", cpuinfo.read_text())
        name = found.group(1) if found else name
    import os

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return re.sub(r"[^a-z0-9]+", "-", f"{name} {cores} cores".lower()).strip("-")


def tables(runs: list[dict[str, Any]]) -> str:
    """The tables of some files.

    Args:
        runs: what ``--benchmark-json`` wrote, of one machine.

    Returns:
        Markdown.
    """
    info = runs[0]["machine_info"]
    lines = [
        f"# {info.get('cpu', {}).get('brand_raw') or info['processor'] or info['machine']}",
        "",
        f"Python {info['python_version']}. Medians over rounds in which all rows of a table were timed in turn; a "
        "ratio is the median over rounds.",
    ]
    for results in runs:
        lines += ["", f"# commit {results['commit_info']['id'][:7]}, {results['datetime'][:10]}"]
        lines += _of_file(results)
    return "\n".join(lines) + "\n"


def _of_file(results: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for bench in results["benchmarks"]:
        extra = bench["extra_info"]
        lines += ["", f"## {bench['group'] or bench['name']}", ""]
        if "us" in extra:
            lines += [f"| | microseconds per {extra.get('unit', 'member-update')} | ratio |", "|---|---|---|"]
            lines += [f"| {name} | {us:,.1f} | {extra['ratio'][name]:.2f} |" for name, us in extra["us"].items()]
            continue
        if isinstance(extra.get("seconds"), dict):
            lines += ["| | seconds | ratio |", "|---|---|---|"]
            lines += [
                f"| {name} | {value:,.3f} | {extra['ratio'][name]:.2f} |" for name, value in extra["seconds"].items()
            ]
            continue
        lines += ["| | |", "|---|---|", f"| median ms | {bench['stats']['median'] * 1e3:,.3f} |"]
        lines += [f"| {key} | {value:,.4g} |" for key, value in extra.items() if isinstance(value, (int, float))]
    return lines


if __name__ == "__main__":
    if sys.argv[1:] == ["--machine"]:
        print(machine())
    else:
        print(tables([json.loads(Path(path).read_text()) for path in sys.argv[1:]]), end="")
