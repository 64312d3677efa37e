"""What was counted: kept in docs/results/faults.json, and the table of docs/reliability.md made of it."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from pathlib import Path

import torch
from trained import Row

from fastplast.runs.files import write_file

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE, RESULTS = DOCS / "reliability.md", DOCS / "results" / "faults.json"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def counted() -> list[Row]:
    """The rows that were counted so far."""
    return [Row(**row) for row in json.loads(RESULTS.read_text(encoding="utf-8"))] if RESULTS.exists() else []


def keep(rows: list[Row]) -> None:
    """Puts rows among those that were counted; one of the same words is replaced."""
    new = {row.what: row for row in rows}
    old = counted()
    together = [new.pop(row.what, row) for row in old] + list(new.values())
    write_file(RESULTS, (json.dumps([asdict(row) for row in together], indent=1) + "\n").encode())


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| tried | times | right | otherwise |", "|---|---:|---|---:|"]
    lines += [f"| {row.what} | {row.tried:,} | {row.right} | {len(row.wrong)} |" for row in rows]
    return "\n".join(lines)


def write_page() -> None:
    """Writes what was counted into the page."""
    versions = f"Python {platform.python_version()} and PyTorch {torch.__version__} on {platform.machine()}"
    text = f"Tried with {versions}, Linux.\n\n{table(counted())}"
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    write_file(PAGE, f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}".encode())
