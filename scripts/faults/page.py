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


def counted(results: Path) -> dict[str, list[Row]]:
    """The rows that were counted so far, by kind of fault."""
    kinds = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    return {kind: [Row(**row) for row in rows] for kind, rows in kinds.items()}


def keep(results: Path, kind: str, rows: list[Row]) -> None:
    """Replaces the rows of a kind of fault; the other kinds stay."""
    kinds = counted(results) | {kind: rows}
    content = {kind: [asdict(row) for row in rows] for kind, rows in kinds.items()}
    write_file(results, (json.dumps(content, indent=1) + "\n").encode())


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| tried | times | right | otherwise |", "|---|---:|---|---:|"]
    lines += [f"| {row.what} | {row.tried:,} | {row.right} | {len(row.wrong)} |" for row in rows]
    return "\n".join(lines)


def write_page(results: Path) -> None:
    """Writes what was counted into the page."""
    versions = f"Python {platform.python_version()} and PyTorch {torch.__version__} on {platform.machine()}"
    rows = [row for rows in counted(results).values() for row in rows]
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    text = f"{before}{BEGIN}\nTried with {versions}, Linux.\n\n{table(rows)}\n{END}{rest.partition(END)[2]}"
    write_file(PAGE, text.encode())
