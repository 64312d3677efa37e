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


def table(results: dict[str, Any]) -> str:
    """The table of one file.

    Args:
        results: what ``--benchmark-json`` wrote.

    Returns:
        Markdown.
    """
    info = results["machine_info"]
    lines = [
        f"# {info.get('cpu', {}).get('brand_raw') or info['processor'] or info['machine']}",
        "",
        f"Python {info['python_version']}, commit {results['commit_info']['id'][:7]}, {results['datetime'][:10]}. "
        "Medians over rounds in which all rows of a table were timed in turn; a ratio is the median over rounds.",
    ]
    for bench in results["benchmarks"]:
        extra = bench["extra_info"]
        lines += ["", f"## {bench['group'] or bench['name']}", ""]
        if "us" in extra:
            lines += [f"| | microseconds per {extra.get('unit', 'member-update')} | ratio |", "|---|---|---|"]
            lines += [f"| {name} | {us:,.1f} | {extra['ratio'][name]:.2f} |" for name, us in extra["us"].items()]
            continue
        if "seconds" in extra:
            lines += ["| | seconds | ratio |", "|---|---|---|"]
            lines += [
                f"| {name} | {value:,.3f} | {extra['ratio'][name]:.2f} |" for name, value in extra["seconds"].items()
            ]
            continue
        lines += ["| | |", "|---|---|", f"| median ms | {bench['stats']['median'] * 1e3:,.3f} |"]
        lines += [f"| {key} | {value:,.4g} |" for key, value in extra.items() if isinstance(value, (int, float))]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--machine"]:
        print(machine())
    else:
        print(table(json.loads(Path(sys.argv[1]).read_text())), end="")
