import json
import subprocess
import sys

import pyarrow as pa
import pytest

import fastplast as fp
from fastplast.cli.main import run
from fastplast.drawing import write_plot
from fastplast.runs.archive import Archive, write_archive
from fastplast.runs.files import StoreError
from fastplast.runs.parquet import encode

SETTINGS = {"benchmark": "mnist_shuffle", "seeds": 2, "tasks": 2, "epochs": 1, "examples": 32, "srank": "off"}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return fp.train(fp.Experiment(**SETTINGS, out=str(tmp_path_factory.mktemp("runs") / "run")))


@pytest.fixture(scope="module")
def archive(results):
    return fp.load(write_archive(results, results.path.parent / "results.parquet"))


def test_a_file_of_results_holds_the_table_of_its_run(results, archive):
    assert isinstance(archive, Archive)
    assert archive.metrics("arrow").equals(results.metrics("arrow"))
    assert archive.members.equals(results.members)
    assert archive.definitions == results.definitions
    assert archive.is_finished
    assert list(archive.timings()["task"]) == [0, 1]


def test_a_file_of_results_says_where_it_comes_from_and_names_no_place(results, archive):
    assert archive.env["commit"] == results.env["commit"]
    assert archive.env["versions"] == results.env["versions"]
    text = json.dumps(archive.env)
    assert str(results.path.parent) not in text
    assert "host" not in archive.env["hardware"]


def test_the_same_results_make_the_same_file_also_through_a_file(results, archive):
    again = write_archive(archive, archive.path.parent / "again.parquet")
    assert again.read_bytes() == archive.path.read_bytes()


def test_figures_are_drawn_from_a_file_of_results_beside_it(archive):
    (path,) = write_plot(archive.path, ["error"], formats=["svg"])
    assert path == archive.path.parent / "figures" / "error.svg"
    assert "results (fastplast" in path.read_text()


def test_the_command_line_exports_a_file_of_results_and_a_table_of_it(results, capsys, tmp_path):
    assert run(["export", str(results.path), "--out", str(tmp_path / "a.parquet")]) == 0
    assert run(["export", str(tmp_path / "a.parquet"), "--out", str(tmp_path / "a.csv")]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "a.parquet"), str(tmp_path / "a.csv")]
    assert (tmp_path / "a.csv").read_bytes() == results.export_csv(tmp_path / "b.csv").read_bytes()


def test_what_is_no_file_of_results_is_refused(results, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must be a file of exported results: got .*none\.parquet"):
        fp.load(tmp_path / "none.parquet")
    part = results.path / "metrics" / "part-00000-end.parquet"
    with pytest.raises(
        StoreError, match=r"`fastplast export RUN --out FILE.parquet` wrote: got .*without its metadata"
    ):
        fp.load(part)
    (tmp_path / "text.parquet").write_text("nothing")
    with pytest.raises(StoreError, match=r"must be a Parquet file: got .*text\.parquet"):
        fp.load(tmp_path / "text.parquet")
    with pytest.raises(ValueError, match=r"opened alone: got a\.parquet, b"):
        fp.load("a.parquet", "b")
    with pytest.raises(ValueError, match=r"must end in \.parquet: got a\.txt"):
        write_archive(results, "a.txt")


def test_a_file_whose_columns_are_not_those_of_its_schema_ends_no_process(tmp_path):
    data = encode(pa.table({"x": [1.0, 2.0]}))
    required = data.replace(b"\x25\x02\x18\x01x", b"\x25\x00\x18\x01x")  # x may not be null, says the schema alone
    assert required != data
    (tmp_path / "e.parquet").write_bytes(required)
    code = "import pathlib, sys\nfrom fastplast.runs.parquet import read_part\n"
    code += "try: read_part(pathlib.Path(sys.argv[1]))\nexcept OSError as error: print(error)"
    command = [sys.executable, "-c", code, tmp_path / "e.parquet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "e.parquet is missing or damaged" in done.stdout
