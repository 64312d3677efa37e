"""Writes how long the slowest tests took, and each folder of them, from pytest's JUnit file: durations.py FROM TO.

Text before the first table is kept: it says how the times have changed, and why.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from fastplast.machine.environment import environment

SLOWEST = 50
MARK = "# Seconds of each folder and of the slowest tests"


def main() -> None:
    """Reads the file that is named first and writes the second."""
    source, target = map(Path, sys.argv[1:])
    suite = next(iter(ElementTree.parse(source).getroot()))
    seconds: Counter[str] = Counter()
    for case in suite.iter("testcase"):
        if file := case.attrib["classname"].replace(".", "/"):  # none of a file that was skipped whole
            seconds[f"{file}.py::{case.attrib['name']}"] += float(case.attrib["time"])
    folders: Counter[str] = Counter()
    for name, spent in seconds.items():
        folders[str(Path(name.split("::")[0]).parent)] += spent
    machine = environment()["hardware"]
    where, took = f"{machine['cores']} cores of {machine['cpu']}", float(suite.attrib["time"])
    lines = [f"{MARK}, on {where}: {len(seconds)} tests in {took:.0f} s"]
    lines += [f"{spent:8.1f}  {name}/" for name, spent in folders.most_common()] + [""]
    lines += [f"{spent:8.1f}  {name}" for name, spent in seconds.most_common(SLOWEST)]
    before = target.read_text().partition(MARK)[0] if target.exists() else ""
    target.write_text(before + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
