"""Turns the JSON of pytest-benchmark into a Markdown table: one row per provider, ratios within each group."""

from __future__ import annotations

import json
import platform
import re
import sys
from collections import defaultdict
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
        Markdown; medians, and how many times longer each provider takes than the fastest of its group.
    """
    info = results["machine_info"]
    lines = [
        f"# {info.get('cpu', {}).get('brand_raw') or info['processor'] or info['machine']}",
        "",
        f"Python {info['python_version']}, commit {results['commit_info']['id'][:7]}, {results['datetime'][:10]}. "
        "Medians of interleaved rounds; times of one run are comparable with each other, less so with other runs.",
    ]
    groups = defaultdict(list)
    for bench in results["benchmarks"]:
        groups[bench["group"] or bench["name"]].append(bench)
    for group, benches in groups.items():
        extras = sorted(
            {key for b in benches for key, value in b["extra_info"].items() if isinstance(value, (int, float))}
        )
        lines += ["", f"## {group}", "", "| | median ms | times the fastest |" + "".join(f" {e} |" for e in extras)]
        lines += ["|---|---|---|" + "---|" * len(extras)]
        fastest = min(b["stats"]["median"] for b in benches)
        for b in sorted(benches, key=lambda b: b["stats"]["median"]):
            cells = [f"{b['extra_info'][e]:,.4g}" if e in b["extra_info"] else "" for e in extras]
            name = b["extra_info"].get("provider") or b["name"]
            median = b["stats"]["median"]
            lines.append(
                f"| {name} | {median * 1e3:,.3f} | {median / fastest:.2f} |" + "".join(f" {c} |" for c in cells)
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--machine"]:
        print(machine())
    else:
        print(table(json.loads(Path(sys.argv[1]).read_text())), end="")
