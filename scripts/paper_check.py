#!/usr/bin/env python
"""Says which rows of docs/paper.md differ from numbers that are computed anew, with pandas and scipy alone.

It shares nothing with scripts/paper.py but the list of statements. Usage: scripts/paper_check.py [PAGE [RESULTS]]; exit
status 1 if anything differs.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from paper_recomputed.rules import RULES
from paper_recomputed.values import Number, Runs

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "scripts" / "paper_statements" / "statements.toml"


def judge(found, mode):
    """(verdict, p, side) of some numbers."""
    found = [f for f in found if f.silent() != "premise fails"] or found
    silent = [f.silent() for f in found]
    told = [f for f, why in zip(found, silent) if not why]
    quick, slow = ("yes", "no") if mode is any else ("no", "yes")
    one = [f.p() for f in told if f.holds == (mode is any)]
    rest = [f.p() for f in told if f.holds != (mode is any)]
    p = min(1.0, len(found) * min(one)) if one else 1.0
    if p < 0.05:
        return quick, p, quick
    if any(silent):
        return next(w for w in ("premise fails", "too few seeds", "not run") if w in silent), np.nan, ""
    if one:
        return "undecided", p, quick
    return (slow if max(rest) < 0.05 else "undecided"), max(rest), slow


def differs(shown, value):
    """Whether a printed number is not the value."""
    digits = len(shown.split(".")[1].split("e")[0]) if "." in shown else 0
    power = int(shown.split("e")[1]) if "e" in shown else 0
    return abs(float(shown) - value) > 0.5001 * 10.0 ** (power - digits) + 1e-9


def compare_row(cells, found, verdict):
    """What of a row's evidence is not what was computed."""
    wrong = [] if cells["holds"] == verdict else [f"verdict {cells['holds']}, computed {verdict}"]
    segments = cells["evidence"].split("; ")
    if m := re.match(r"of (\d+) the clearest: ", cells["evidence"]):
        if int(m[1]) != len(found):
            wrong.append(f"{m[1]} numbers, computed {len(found)}")
        found = sorted(found, key=lambda f: 1.0 if f.silent() else f.p())[: len(segments)]
    if len(segments) == 1 and not re.search(r"\[|seeds as claimed|not run", segments[0]):  # one reason for all
        return wrong if all(not f.premise or f.absent for f in found) else [*wrong, "a premise holds"]
    if len(segments) != len(found):
        return [*wrong, f"{len(segments)} numbers, computed {len(found)}"]
    for text, f in zip(segments, found):
        if m := re.search(r"(\S+) \[(\S+), (\S+)\]", text):
            pairs = zip(m.groups(), (f.mean, *f.ends()))
            wrong += [f"{text}: computed {value:.6g}" for shown, value in pairs if differs(shown, value)]
        elif m := re.search(r"(\S+) \((\d+) of (\d+) seeds as claimed\)", text):
            agree = int(((f.x > f.low) & (f.x < f.high)).sum())
            if differs(m[1], f.mean) or (int(m[2]), int(m[3])) != (agree, f.n):
                wrong.append(f"{text}: computed {f.mean:.6g}, {agree} of {f.n}")
        elif f.n:
            wrong.append(f"{text}: computed {f.mean:.6g}")
    return wrong


def rows_of(page):
    """The rows of the page with runs, as (id, file, step size, activation, cells)."""
    rows, name = [], ""
    for line in page.splitlines():
        cells = [c.strip() for c in line.strip("|").split("|")] if line.startswith("| ") else []
        if len(cells) != 7:
            continue
        name = cells[0] or name
        if m := re.match(r"`(\w[\w.-]*)`, ([\d.e-]+)(?:, (\w+))?$", cells[3]):
            plain = [c.strip("*") for c in cells]
            told = {"holds": plain[4], "corrected": re.sub(r"[*]| \(p .*", "", cells[5])}
            told |= {"p": re.search(r"\(p (.+)\)", cells[5]), "evidence": cells[6]}
            rows.append((name, m[1], float(m[2]), m[3], told))
    return rows


def main():
    """Checks the page.

    Returns:
        Exit status.
    """
    page = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "paper.md"
    results = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "docs" / "results"
    wrong, count = differences(page.read_text(encoding="utf-8"), results)
    print(*wrong, f"{count} rows, {len(wrong)} differences", sep="\n")
    return int(bool(wrong) or not count)


@cache
def read_runs(folder):
    """The runs of every file of a folder, by name and step size."""
    runs = {}
    for file in sorted(folder.glob("*.parquet")):
        runs |= {(file.stem, float(rate)): Runs(part) for rate, part in pd.read_parquet(file).groupby("learning_rate")}
    return runs


def differences(page, results):
    """What on a page differs from what its results give.

    Args:
        page: its text.
        results: folder of the results.

    Returns:
        Differences in words, and the number of rows.
    """
    listed = {s["id"]: s for s in tomllib.loads(LIST.read_text(encoding="utf-8"))["statement"]}
    runs, rows, judged, wrong = read_runs(results), rows_of(page), [], []
    for name, file, rate, activation, cells in rows:
        args = dict(listed[name].get("with", {}))
        r, named = runs[file, rate], args.get("activations")
        if named:
            args["activations"] = [a for a in named if a in r.activations]
        elif activation:
            args["activations"] = [activation]
        args.setdefault("activations", r.activations)
        rule, mode = RULES[listed[name]["rule"]]
        found = rule(r, args)
        found += [Number([], absent=True) for a in named or [] if a not in r.activations]
        judged.append(judge(found, mode))
        wrong += [f"{name}, {file}: {text}" for text in compare_row(cells, found, judged[-1][0])]
    tested = sorted((p, i) for i, (_, p, _) in enumerate(judged) if p == p)
    least = 0.0
    for rank, (p, i) in enumerate(tested):
        least = max(least, min(1.0, p * (len(tested) - rank)))
        cells, side = rows[i][4], judged[i][2]
        told = cells["p"][1] if cells["p"] else "nan"
        if cells["corrected"] != (side if least < 0.05 else "undecided") or not abs(float(told) / least - 1) < 0.051:
            wrong.append(f"{rows[i][0]}, {rows[i][1]}: corrected {cells['corrected']} {told}, computed {least:.2g}")
    return wrong, len(rows)


if __name__ == "__main__":
    sys.exit(main())
