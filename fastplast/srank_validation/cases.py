"""Certified stable ranks against exact ones, on the states of a run and on synthetic spectra."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median_low

import torch

from fastplast import seeding
from fastplast.config import Experiment
from fastplast.curvature import Tail, measure, stable_rank
from fastplast.curvature.estimates import empirical_fisher_rank, gauss_newton_rank, plain_lanczos_rank
from fastplast.curvature.lanczos import KnownSpectrum, block_lanczos
from fastplast.curvature.synthetic import conjugate, spectra
from fastplast.measuring import probes
from fastplast.measuring.hessian import tail_of
from fastplast.problems import Task, make_task
from fastplast.runs.checkpoint import load_checkpoint
from fastplast.runs.files import config_digest, write_file
from fastplast.runs.run import Run
from fastplast.training.identity import check_identity
from fastplast.training.setup import Setup, prepare

METHODS = ("lanczos", "truncated", "auto")
_HEADER = ("", "method", "n", "srank", "exact", "width", "depth", "of", "seconds", "speed-up", "wrong", "Fisher", "G",
           "Lanczos 100")  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One matrix, measured by one method beside the exact one.

    Attributes:
        where: the time of a run, or the name of a spectrum.
        member: of the run; 0 for a spectrum.
        method: asked for.
        used: what answered.
        exact: the exact stable rank; -1 where it is missing.
        lo: certified lower bound.
        hi: certified upper bound.
        estimate: reported.
        dimension: of the matrix.
        depth: eigenvalues computed.
        seconds: of the method.
        exact_seconds: of all eigenvalues.
        fisher: what the empirical Fisher matrix would have said; None for a spectrum.
        gauss_newton: what the Gauss-Newton part alone would have said.
        plain_lanczos: what 100 steps of Lanczos without reorthogonalisation would have said.
    """

    where: str
    member: int
    method: str
    used: str
    exact: int
    lo: int
    hi: int
    estimate: int
    dimension: int
    depth: int
    seconds: float
    exact_seconds: float
    fisher: int | None = None
    gauss_newton: int | None = None
    plain_lanczos: int | None = None

    @property
    def violated(self) -> bool:
        """Whether the certificate is wrong."""
        return not self.lo <= self.exact <= self.hi

    @property
    def speed_up(self) -> float:
        """Time of the exact method over that of this one."""
        return self.exact_seconds / self.seconds if self.seconds > 0 else float("nan")


def validate_run(path: str | Path) -> Iterator[Case]:
    """Every member of a run at the times its checkpoint holds: the end of the last task, and the start of the next.

    Args:
        path: run directory.

    Yields:
        A case for every time, member and method.

    Raises:
        FileNotFoundError: if the path is no run directory or has no checkpoint.
        ConfigError: if it was trained with other data.
    """
    run = Run(path)
    found = load_checkpoint(run.path / "checkpoint", config_digest(run.config))
    if found is None:
        raise FileNotFoundError(f"path must be a run with a checkpoint: got {path}. Train it first, or give no run.")
    tensors, position = found
    setup = prepare(Experiment.from_dict(run.config | {"engine": "auto", "srank": "off"}, str(path)))
    check_identity(setup, run.identity, path)
    setup.state.params.copy_(tensors["state.params"])
    task, epoch = position["task"], position["epoch"]
    if epoch:
        yield from validate_tail(f"task {task} epoch {epoch}", _tail(setup, make_task(setup.problem, task)))
        return
    if task:
        yield from validate_tail(f"task {task - 1} end", _tail(setup, make_task(setup.problem, task - 1)))
    yield from validate_tail(f"task {task} start", _tail(setup, make_task(setup.problem, task)))


def validate_training(experiment: Experiment) -> Iterator[Case]:
    """Every member at every task's start and end of a run that is trained for it and not stored.

    Args:
        experiment: what to train.

    Yields:
        A case for every time, member and method.
    """
    setup = prepare(experiment)
    e = setup.experiment
    for index in range(e.tasks or 0):
        task = make_task(setup.problem, index)
        yield from validate_tail(f"task {index} start", _tail(setup, task))
        for epoch in range(e.epochs):
            order = seeding.orders(setup.group.seeds, e.examples, e.batch_size, index, epoch)
            setup.engine.run(setup.state, task, torch.from_numpy(order))
        yield from validate_tail(f"task {index} end", _tail(setup, task))


def validate_tail(where: str, tail: Tail) -> Iterator[Case]:
    """Every member of a tail.

    Args:
        where: how to call it.
        tail: of `M` members.

    Yields:
        A case for every member that could be measured and method.
    """
    exact = measure(tail)
    others = (empirical_fisher_rank(tail), gauss_newton_rank(tail), plain_lanczos_rank(tail))
    for method in METHODS:
        found = measure(tail, method=method, hint=exact.srank)
        columns = (exact.srank, found.srank_lo, found.srank_hi, found.srank, found.dimension, found.depth,
                   found.seconds, exact.seconds, *others)  # fmt: skip
        for m, values in enumerate(zip(*(column.tolist() for column in columns))):
            if exact.finite[m]:
                yield Case(where, m, method, found.method[m], *values)


def validate_spectra(size: int) -> Iterator[Case]:
    """Block Lanczos on matrices with the spectra of ``curvature.synthetic``.

    Args:
        size: of the matrices.

    Yields:
        A case for every spectrum.
    """
    generator = torch.Generator().manual_seed(0)
    for name, values in spectra(size).items():
        matrix = conjugate(values, generator)
        begun = time.perf_counter()
        torch.linalg.eigvalsh(matrix)
        exact_seconds = time.perf_counter() - begun
        begun = time.perf_counter()
        known = KnownSpectrum(matrix.trace()[None], torch.linalg.vector_norm(matrix)[None], [None])
        (found,) = block_lanczos(lambda _, block, matrix=matrix: matrix @ block, size, known, depth=min(64, size))
        seconds = time.perf_counter() - begun
        bounds = found.certificate
        ranks = (int(stable_rank(values)), int(bounds.lo), int(bounds.hi), int(bounds.estimate))
        yield Case(name, 0, "lanczos", "lanczos", *ranks, size, len(found.ritz), seconds, exact_seconds)


def table(cases: Sequence[Case]) -> str:
    """What was found, a line for each place and method.

    Args:
        cases: all of them.

    Returns:
        Text in columns.
    """
    rows: list[tuple[str, ...]] = [_HEADER]
    for key in dict.fromkeys((case.where, case.method) for case in cases):
        rows.append((*key, *_summary([case for case in cases if (case.where, case.method) == key])))
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(f"{cell:{'<' if i < 2 else '>'}{w}}" for i, (cell, w) in enumerate(zip(row, widths)))
                     for row in rows)  # fmt: skip


def _summary(cases: Sequence[Case]) -> tuple[str, ...]:
    same = sum(case.estimate == case.exact for case in cases)
    return (
        str(len(cases)),
        _median(cases, "exact"),
        f"{same}/{len(cases)}",
        str(max(case.hi - case.lo for case in cases)),
        _median(cases, "depth"),
        _median(cases, "dimension"),
        _median(cases, "seconds", ".3f"),
        _median(cases, "speed_up", ".1f"),
        str(sum(case.violated for case in cases)),
        *(_median(cases, name) for name in ("fisher", "gauss_newton", "plain_lanczos")),
    )


def _median(cases: Sequence[Case], name: str, form: str = ".0f") -> str:
    """The lower one of two in the middle; empty where no case has the value."""
    values = [value for case in cases if (value := getattr(case, name)) is not None]
    return format(median_low(values), form) if values else ""


def write_csv(cases: Sequence[Case], path: str | Path) -> Path:
    """Writes all cases, replacing what was there.

    Args:
        cases: all of them.
        path: the file.

    Returns:
        Its path.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, [field.name for field in fields(Case)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(case) for case in cases)
    path = Path(path).expanduser()
    write_file(path, out.getvalue().encode())
    return path


def _tail(setup: Setup, task: Task) -> Tail:
    network, params = setup.group.network, setup.state.params
    members = range(len(setup.group.members))
    inputs = [probes.evaluate(network, params[member], task, member).tail_inputs for member in members]
    return tail_of(network, params, task.labels, inputs)
