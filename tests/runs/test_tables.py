"""Every table says which of its columns describe a member and which were measured of it."""

import json

import pyarrow.parquet as pq
import pytest

import fastplast as fp
from fastplast.runs.archive import write_archive
from fastplast.runs.tables import described, measured

SETTINGS = {"benchmark": "mnist_shuffle", "seeds": 2, "tasks": 2, "epochs": 2, "examples": 32, "widths": (6, 5)}
SETTINGS |= {"epoch_curves": True, "threads": 1}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    grid = SETTINGS | {"widths": [6, 5], "activation": ["relu", "tanh"]}
    return fp.sweep(grid, tmp_path_factory.mktemp("tables") / "sweep")


def without_metadata(path):
    """Rewrites a file of tables as earlier versions wrote it, which had no manifests."""
    pq.write_table(pq.ParquetFile(path).read().replace_schema_metadata(None), path, compression="zstd")


def assert_known(table, first: list[str]):
    """Its metadata name columns, and all but those that say when."""
    known = json.loads(table.schema.metadata[b"fastplast"])
    assert described(table) == known["described"]
    assert measured(table) == known["values"]
    assert described(table)[: len(first)] == first
    assert set(table.column_names) - set(described(table)) - set(measured(table)) <= {"task", "when", "epoch"}
    assert table.column_names[: len(described(table))] == described(table)
    assert table.column_names[-len(measured(table)) :] == measured(table)


def test_tables_of_runs_sweeps_and_files_of_results_know_their_columns(sweep, tmp_path):
    shard = sweep.shards[0]
    archive = fp.load(write_archive(sweep, tmp_path / "results.parquet"))
    parts = [pq.ParquetFile(path).read() for path in sorted((shard.path / "metrics").glob("*.parquet"))]
    for table in (*parts, *(results.metrics("arrow") for results in (shard, sweep, archive))):
        assert_known(table, ["member", "seed", "learning_rate", "method", "strength"])
        assert "activation" in described(table)
        assert measured(table)[:3] == ["updates", "diverged", "diverged_step"]
    for table in (shard.epochs("arrow"), sweep.epochs("arrow")):
        assert_known(table, ["member", "seed", "learning_rate", "method", "strength"])
        assert "online_error" in measured(table)
    assert list(sweep.members)[:2] == ["id", "member"]
    assert list(sweep.members)[1:] == list(archive.members) == described(archive.metrics("arrow"))


def test_files_of_earlier_versions_are_read_by_the_places_of_their_columns(tmp_path):
    new = fp.train(fp.Experiment(**SETTINGS, out=str(tmp_path / "new")))
    old = fp.train(fp.Experiment(**SETTINGS, out=str(tmp_path / "old")))
    for path in old.path.rglob("*.parquet"):
        without_metadata(path)
    (old.path / "manifest.jsonl").unlink()
    env = json.loads((old.path / "env.json").read_text())
    del env["manifest"]
    (old.path / "env.json").write_text(json.dumps(env))
    assert old.metrics("arrow").equals(new.metrics("arrow"))
    assert old.epochs("arrow").equals(new.epochs("arrow"))
    assert old.members.equals(new.members)
    for name in ("metrics", "epochs"):
        tables = [getattr(run, name)("arrow") for run in (old, new)]
        assert [described(table) for table in tables] == [described(tables[1])] * 2
        assert [measured(table) for table in tables] == [measured(tables[1])] * 2


def test_a_file_of_results_of_an_earlier_version_is_read_by_the_places_of_its_columns(sweep, tmp_path):
    new = fp.load(write_archive(sweep, tmp_path / "new.parquet"))
    table = pq.ParquetFile(new.path).read()
    note = json.loads(table.schema.metadata[b"fastplast"])
    note = {name: value for name, value in note.items() if name not in ("described", "values")}
    pq.write_table(table.replace_schema_metadata({"fastplast": json.dumps(note)}), tmp_path / "old.parquet")
    old = fp.load(tmp_path / "old.parquet")
    assert old.members.equals(new.members)
    assert old.metrics("arrow").equals(new.metrics("arrow"))
    assert described(old.metrics("arrow")) == described(new.metrics("arrow"))
    assert measured(old.metrics("arrow")) == measured(new.metrics("arrow"))


def test_a_pandas_table_is_read_by_the_places_of_its_columns(sweep):
    assert described(sweep.metrics()) == described(sweep.metrics("arrow"))
    assert measured(sweep.metrics()) == measured(sweep.metrics("arrow"))
    assert measured(sweep.epochs()) == measured(sweep.epochs("arrow"))
