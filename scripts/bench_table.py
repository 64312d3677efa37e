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
        "ratio is the median over rounds. Where a table says so, rows were timed one after another, and ratios are of "
        "medians.",
    ]
    for results in runs:
        lines += ["", f"# commit {results['commit_info']['id'][:7]}, {results['datetime'][:10]}"]
        lines += _of_file(results)
    return "\n".join(lines) + "\n"


def _of_file(results: dict[str, Any]) -> list[str]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for bench in results["benchmarks"]:
        groups.setdefault(bench["group"] or bench["name"], []).append(bench)
    lines: list[str] = []
    for name, benches in groups.items():
        lines += ["", f"## {name}", ""]
        extra = benches[0]["extra_info"]
        if len(benches) > 1:
            lines += _one_after_another([bench["extra_info"] for bench in benches])
        elif "us" in extra:
            lines += _side_by_side(extra, "us", f"microseconds per {extra.get('unit', 'member-update')}", ".1f")
        elif isinstance(extra.get("seconds"), dict):
            lines += _side_by_side(extra, "seconds", "seconds", ".3f")
        else:
            lines += ["| | |", "|---|---|", f"| median ms | {benches[0]['stats']['median'] * 1e3:,.3f} |"]
            lines += [f"| {key} | {value:,.4g} |" for key, value in extra.items() if isinstance(value, (int, float))]
    return lines


def _side_by_side(extra: dict[str, Any], key: str, unit: str, digits: str) -> list[str]:
    rows = [f"| {name} | {value:,{digits}} | {extra['ratio'][name]:.2f} |" for name, value in extra[key].items()]
    return [f"| | {unit} | ratio |", "|---|---|---|", *rows]


def _one_after_another(extras: list[dict[str, Any]]) -> list[str]:
    """Rows that were timed each by itself, with what else was counted of them."""
    key, unit, digits = (
        ("us", "microseconds per member-update", ".1f") if "us" in extras[0] else ("seconds", "seconds", ".3f")
    )
    more = [name for name, value in extras[0].items() if isinstance(value, (int, float))]
    rows, first = [], next(iter(extras[0][key].values()))
    for extra in extras:
        ((name, value),) = extra[key].items()
        rows.append(
            f"| {name} | {value:,{digits}} | {value / first:.2f} |" + "".join(f" {extra[m]:.3g} |" for m in more)
        )
    header = "".join(f" {name} |" for name in more)
    return [f"| one after another | {unit} | ratio |{header}", "|---|---|---|" + "---|" * len(more), *rows]


if __name__ == "__main__":
    if sys.argv[1:] == ["--machine"]:
        print(machine())
    else:
        print(tables([json.loads(Path(path).read_text()) for path in sys.argv[1:]]), end="")
