"""`fastplast srank validate`: certificates beside exact ranks, a table, a figure, and a failure if one is wrong."""

import csv
import dataclasses

import pytest

import fastplast as fp
from fastplast.cli.main import run
from fastplast.curvature.synthetic import spectra
from fastplast.srank_validation.cases import METHODS, Case, table, validate_run, validate_spectra, validate_training

SMALL = {"seeds": 2, "epochs": 2, "examples": 96, "widths": (12, 10, 8), "srank": "off", "threads": 1}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return fp.train(fp.Experiment(tasks=2, out=str(tmp_path_factory.mktemp("run") / "a"), **SMALL))


def test_every_time_member_and_method_has_a_case_whose_certificate_holds():
    cases = list(validate_training(fp.Experiment(tasks=2, **SMALL)))
    assert len(cases) == 4 * 2 * len(METHODS)
    assert not any(case.violated for case in cases)
    assert all(case.fisher and case.gauss_newton and case.plain_lanczos for case in cases)


def test_a_run_is_validated_from_its_checkpoint(finished):
    cases = list(validate_run(finished.path))
    assert {case.where for case in cases} == {"task 1 end", "task 2 start"}
    assert not any(case.violated for case in cases)


def test_every_synthetic_spectrum_is_bracketed():
    cases = list(validate_spectra(80))
    assert [case.where for case in cases] == list(spectra(80))
    assert not any(case.violated for case in cases)


def test_table_and_figure_are_written_and_the_command_succeeds(finished, tmp_path, capsys):
    assert run(["srank", "validate", str(finished.path), "--size", "60", "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "task 1 end" in text
    assert "0 wrong" in text
    rows = list(csv.DictReader((tmp_path / "out" / "validation.csv").read_text().splitlines()))
    assert len(rows) == 2 * 2 * 3 + len(spectra(60))
    assert (tmp_path / "out" / "validation.png").stat().st_size > 1000


def test_a_wrong_certificate_makes_the_command_fail(finished, tmp_path, capsys, monkeypatch):
    (case, *_) = validate_spectra(60)
    wrong = dataclasses.replace(case, lo=case.exact + 1, hi=case.exact + 2)
    monkeypatch.setattr("fastplast.srank_validation.cases.validate_run", lambda path: iter([wrong]))
    assert wrong.violated
    assert run(["srank", "validate", str(finished.path), "--size", "0", "--out", str(tmp_path)]) == 1
    assert "1 wrong" in capsys.readouterr().out


def test_wrong_sizes_are_refused(capsys):
    assert run(["srank", "validate", "--size", "5"]) == 2
    assert "--size must be 0 or at least 60: got 5" in capsys.readouterr().err


def test_a_line_holds_the_medians_of_its_cases():
    case = Case("here", 0, "auto", "exact", 7, 6, 8, 7, 20, 20, 0.5, 1.0, 9, 5, 3)
    assert table([case]).splitlines()[1].split() == ["here", "auto", "1", "7", "1/1", "2", "20", "20", "0.500", "2.0",
                                                     "0", "9", "5", "3"]  # fmt: skip
