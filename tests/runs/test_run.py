import csv
import json
import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from fastplast.machine.environment import environment
from fastplast.runs.files import SCHEMA_VERSION, StoreError, config_digest
from fastplast.runs.run import Run
from fastplast.runs.tables import concatenate, merge_shards
from fastplast.runs.writer import RunWriter

CONFIG = {"benchmark": "mnist_shuffle", "seeds": 3, "learning_rate": [1e-3, 1e-2], "out": None}


def columns(task, measured=True):
    error = [0.1 * task, math.nan, 1 / 3]
    return {
        "member": [0, 1, 2],
        "seed": [7, 8, 9],
        "method": ["l2", "l2", "none"],
        "strength": [0.01, 1.0, 0.0],
        "updates": [80 * task] * 3,
        "diverged": [False, True, False],
        "diverged_step": [None, 5, None],
        "error": error,
        "hessian_srank": torch.tensor([3.0, 4.0, 5.0], dtype=torch.float64) if measured else [None] * 3,
    }


@pytest.fixture
def writer(tmp_path):
    with RunWriter.create(tmp_path / "run", CONFIG, ["fastplast", "train", "--out", "my run"]) as writer:
        yield writer


def fill(writer, tasks=3):
    for task in range(tasks):
        writer.write_metrics(task, "start", columns(task))
        writer.write_metrics(task, "end", {**columns(task, measured=False), "online_error": [0.5] * 3})


def test_config_json_holds_the_configuration_and_nothing_else(writer):
    assert json.loads((writer.run.path / "config.json").read_text()) == CONFIG
    assert writer.config == writer.run.config == CONFIG


def test_env_json_says_what_ran_where_and_when(writer):
    writer.write_note("data", {"source": "embedded"})
    env = writer.run.env
    assert env["command"] == "fastplast train --out 'my run'"
    assert env["schema_version"] == SCHEMA_VERSION
    assert set(env["versions"]) >= {"python", "torch", "numpy", "pyarrow"}
    assert env["hardware"]["cores"] >= 1
    assert env["started"].endswith("+00:00")
    assert env["notes"] == {"data": {"source": "embedded"}}
    assert (env["commit"] is None) == (env["dirty"] is None)


def test_environment_needs_neither_git_nor_a_gpu(monkeypatch):
    monkeypatch.setenv("PATH", "")
    env = environment("x")
    assert (env["command"], env["commit"], env["dirty"], env["hardware"]["gpus"]) == ("x", None, None, [])


def test_a_command_is_named_by_its_program_wherever_that_lies():
    assert environment(["/opt/env/bin/fastplast", "train", "--out", "a b"])["command"] == "fastplast train --out 'a b'"
    assert environment(["/opt/fastplast/__main__.py", "train"])["command"] == "fastplast train"
    assert environment(["mine.py", "--seed", "1"])["command"] == "mine.py --seed 1"


def test_a_run_is_finished_only_after_finish(writer):
    assert not writer.run.is_finished
    assert writer.run.env["ended"] is None
    writer.finish()
    assert writer.run.is_finished
    assert writer.run.env["ended"] is not None


def test_metrics_are_sorted_by_task_start_before_end_then_member(writer):
    for task in (1, 0):
        shuffled = {k: list(np.asarray(v, dtype=object)[[2, 0, 1]]) for k, v in columns(task).items()}
        writer.write_metrics(task, "end", shuffled)
        writer.write_metrics(task, "start", shuffled)
    table = writer.run.metrics()
    assert list(zip(table.task, table.when, table.member)) == [
        (task, when, member) for task in (0, 1) for when in ("start", "end") for member in range(3)
    ]


def test_metrics_keep_types_and_tell_null_from_nan(writer):
    fill(writer)
    table = writer.run.metrics("arrow")
    types = {name: str(table.schema.field(name).type) for name in table.column_names}
    assert types["seed"] == types["task"] == types["updates"] == types["diverged_step"] == "int64"
    assert types["error"] == types["hessian_srank"] == "double"
    assert types["diverged"] == "bool"
    assert table["error"].null_count == 0  # NaN is a number that came out
    assert table["hessian_srank"].null_count == 9  # null was not measured
    assert table["online_error"].null_count == 9  # a column that only the task ends have
    assert table.to_pydict()["error"][2] == 1 / 3


def test_a_column_without_any_value_is_a_column_of_numbers(writer):
    writer.write_metrics(0, "end", columns(0) | {"diverged_step": [None] * 3})
    assert str(writer.run.metrics("arrow").schema.field("diverged_step").type) == "double"
    assert writer.run.metrics().diverged_step.isna().all()


def test_task_and_when_divide_what_describes_members_from_what_was_measured(writer):
    fill(writer, 1)
    names = writer.run.metrics().columns.tolist()
    assert names[:7] == ["member", "seed", "method", "strength", "task", "when", "updates"]
    assert writer.run.members.columns.tolist() == ["member", "seed", "method", "strength"]
    assert writer.run.members.seed.tolist() == [7, 8, 9]


def test_a_setting_that_an_earlier_version_did_not_have_describes_members():
    def part(task: int, **settings: bool) -> pa.Table:
        return pa.table({"member": [0], "seed": [0], **{k: [v] for k, v in settings.items()}, "task": [task],
                         "when": ["end"], "error": [0.5]})  # fmt: skip

    resumed = concatenate([part(0), part(1, compile=False)])
    assert resumed.column_names == ["member", "seed", "compile", "task", "when", "error"]
    assert resumed["compile"].to_pylist() == [None, False]
    both = merge_shards([(resumed, [0]), (part(0, compile=False), [0])])
    assert both.column_names == resumed.column_names
    assert len(both) == 3


def test_the_same_values_make_the_same_bytes(writer):
    path = writer.run.path / "metrics" / "part-00002-start.parquet"
    spectrum = writer.run.path / "spectra" / "task-00002-start.npz"
    seen = set()
    for _ in range(2):
        writer.write_metrics(2, "start", columns(2))
        writer.write_spectra(2, "start", [torch.arange(3.0)])
        seen.add((path.read_bytes(), spectrum.read_bytes()))
    assert len(seen) == 1
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"


def test_folders_named_like_partitions_add_no_column(tmp_path):
    with RunWriter.create(tmp_path / "lr=0.1" / "run", CONFIG) as writer:
        fill(writer, 1)
        assert "lr" not in writer.run.metrics().columns


def test_metrics_come_as_polars_or_say_how_to_get_it(writer, monkeypatch):
    fill(writer, 1)
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match=r"pip install polars.*'pandas' or 'arrow'"):
        writer.run.metrics("polars")
    monkeypatch.setitem(sys.modules, "polars", SimpleNamespace(from_arrow=lambda table: ("polars", table.num_rows)))
    assert writer.run.metrics("polars") == ("polars", 6)


def test_an_unknown_format_is_an_error_with_the_list(writer):
    with pytest.raises(ValueError, match=r"format must be a known name: got 'panda'. Did you mean 'pandas'\?"):
        writer.run.metrics("panda")


def test_a_run_without_metrics_says_so(writer):
    with pytest.raises(StoreError, match="holds no metrics yet: its first task has not been measured"):
        writer.run.metrics()
    assert repr(writer.run) == f"Run({str(writer.run.path)!r}, 0 tasks, not finished)"


def test_repr_of_a_run_is_one_line(writer):
    fill(writer)
    writer.finish()
    assert repr(writer.run) == f"Run({str(writer.run.path)!r}, 3 members, 3 tasks, finished)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"error": [1.0]}, r"columns\['error'\] must have a value for each of 3 members: got 1"),
        ({"error": [object()] * 3}, r"columns\['error'\] must be `\[M\]` numbers, texts or booleans"),
        ({"error": np.zeros((3, 2))}, r"columns\['error'\] must be `\[M\]` numbers"),
    ],
)
def test_a_column_that_is_not_one_value_per_member_is_refused(writer, change, message):
    with pytest.raises(ValueError, match=message):
        writer.write_metrics(0, "end", columns(0) | change)
    assert not (writer.run.path / "metrics").exists()


def test_columns_out_of_order_or_at_an_unknown_time_are_refused(writer):
    with pytest.raises(ValueError, match="columns must have member, hyperparameters, updates, and then what was"):
        writer.write_metrics(0, "end", {"updates": [1], "member": [0]})
    with pytest.raises(ValueError, match="when must be a known name: got 'middle'"):
        writer.write_metrics(0, "middle", columns(0))


def test_definitions_lie_beside_the_numbers(writer):
    assert writer.run.definitions == {}
    writer.write_definitions({"error": "misclassified fraction"})
    assert json.loads((writer.run.path / "metrics" / "definitions.json").read_text()) == writer.run.definitions
    assert writer.run.definitions == {"error": "misclassified fraction"}


def test_spectra_of_different_lengths_come_back_as_fp32(writer):
    given = [torch.tensor([3.0, -1.0], dtype=torch.float64), torch.zeros(0), torch.arange(5.0)]
    writer.write_spectra(4, "start", given)
    found = writer.run.spectra(4)
    assert [row.dtype for row in found] == [np.float32] * 3
    assert [row.tolist() for row in found] == [[3.0, -1.0], [], [0.0, 1.0, 2.0, 3.0, 4.0]]
    with pytest.raises(StoreError, match=r"task-00004-end.npz is not there. Spectra of this run: task-00004-start\."):
        writer.run.spectra(4, "end")


def test_timings_are_appended_and_outlive_a_torn_line(writer):
    assert writer.run.timings().empty
    writer.append_timing({"task": 0, "train_seconds": 1.5})
    with open(writer.run.path / "timings.jsonl", "ab") as file:
        file.write(b'{"task": 1, "tra')  # killed here
    writer.append_timing({"task": 1, "train_seconds": 2.5, "measure_seconds": 1})
    assert writer.run.timings().train_seconds.tolist() == [1.5, 2.5]


def test_csv_reads_back_as_the_same_numbers(writer, tmp_path):
    fill(writer)
    path = writer.run.export_csv(tmp_path / "new" / "all.csv")
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    for name in ("error", "hessian_srank", "strength"):
        read = [float(row[name] or "nan") for row in rows]
        np.testing.assert_array_equal(read, writer.run.metrics()[name])
    assert [row["method"] for row in rows[:3]] == ["l2", "l2", "none"]
    assert [row["diverged_step"] for row in rows[:3]] == ["", "5", ""]


def test_open_notes_every_resume_and_clears_what_a_kill_left(writer):
    left = writer.run.path / "metrics" / ".part-00000-end.parquet.1.tmp"
    left.parent.mkdir()
    left.touch()
    writer.close()
    for number in range(2):
        with RunWriter.open(writer.run.path, f"resume {number}") as again:
            again.finish()
    env = again.run.env
    assert [r["command"] for r in env["resumes"]] == ["resume 0", "resume 1"]
    assert env["ended"] is None  # the first process was not the one that finished
    assert env["resumes"][1]["ended"] is not None
    assert not left.exists()


def test_check_resumable_names_every_field_that_differs(writer):
    writer.check_resumable({**CONFIG, "learning_rate": (1e-3, 1e-2)})
    other = {k: v for k, v in CONFIG.items() if k != "seeds"} | {"learning_rate": [0.1], "threads": 4}
    message = (
        r"got seeds: 3 -> \(absent\); learning_rate: \[0.001, 0.01\] -> \[0.1\]; threads: \(absent\) -> 4\. Resume"
    )
    with pytest.raises(ValueError, match=message):
        writer.check_resumable(other)


def test_a_run_of_another_schema_is_neither_read_nor_resumed(writer):
    writer.close()
    path = writer.run.path / "env.json"
    env = json.loads(path.read_text()) | {"fastplast": "9.1"}
    for version, advice in ((SCHEMA_VERSION + 1, "Upgrade fastplast"), (0, "with the fastplast that wrote it")):
        path.write_text(json.dumps(env | {"schema_version": version}))
        for call in (Run, RunWriter.open):
            with pytest.raises(ValueError, match=rf"must have run schema .*: got {version}, .*9\.1\. .*{advice}"):
                call(writer.run.path)


def test_a_path_that_is_no_run_is_an_error_that_lists_runs_inside(writer, tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"got {tmp_path}. Runs in it: {tmp_path}/run\."):
        Run(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"got .*/none, which does not exist\."):
        Run(tmp_path / "none")


def test_damaged_json_is_an_error_that_names_the_file(writer):
    (writer.run.path / "config.json").write_text("{")
    with pytest.raises(StoreError, match=r"config.json is missing or damaged .* Restore it from a copy"):
        writer.run.config  # noqa: B018


def test_config_digest_ignores_the_order_of_keys():
    assert config_digest({"a": 1, "b": [2]}) == config_digest({"b": [2], "a": 1}) != config_digest({"a": 1, "b": [3]})


def test_importing_the_store_imports_no_heavy_library():
    heavy = ("torch", "numpy", "pandas", "pyarrow", "safetensors")
    code = f"import sys, fastplast.runs.writer; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_create_refuses_a_directory_that_holds_a_run(writer):
    before = sorted(p.name for p in writer.run.path.rglob("*"))
    message = (
        rf"got {writer.run.path}, which holds a run. Continue it with `fastplast resume {writer.run.path}`, or .*--out"
    )
    with pytest.raises(FileExistsError, match=message):
        RunWriter.create(writer.run.path, CONFIG)
    assert sorted(p.name for p in writer.run.path.rglob("*")) == before


def test_create_refuses_somebodys_files(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match=r"holds files\. Choose another `--out`"):
        RunWriter.create(tmp_path, CONFIG)
    with pytest.raises(FileExistsError, match=r"got the file .*thesis.tex"):
        RunWriter.create(tmp_path / "thesis.tex", CONFIG)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_create_takes_an_empty_directory(tmp_path):
    RunWriter.create(tmp_path, CONFIG).close()
    assert Run(tmp_path).config == CONFIG
