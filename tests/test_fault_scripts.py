"""The scripts that try faults and simulate clusters, in short: what they count is nowhere wrong."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS / "faults"))
    monkeypatch.syspath_prepend(str(SCRIPTS))
    names = ("interruptions", "contents", "clusters", "limits", "trained", "soak", "page", "measure", "scaling")
    yield lambda name: __import__(name)
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("name", "count"), [("kills", 4), ("full_disks", 6), ("power_cuts", 6), ("two_processes", 2)])
def test_an_interrupted_run_goes_on_to_the_same_bytes(scripts, name, count, tmp_path):
    row = getattr(scripts("interruptions"), name)(tmp_path, count)
    assert (row.tried >= 2, row.wrong) == (True, [])


def test_damaged_files_of_runs_are_the_documented_error_or_mended(scripts, tmp_path):
    for row in scripts("contents").files_of_runs(tmp_path, 20):
        assert (row.tried, row.wrong) == (20, []), row.what


def test_damaged_inputs_are_the_documented_error(scripts, tmp_path):
    for row in scripts("contents").inputs(tmp_path, 100):
        assert (row.tried, row.wrong) == (100, []), row.what


def test_every_reader_reads_what_is_whole_and_is_told_of_what_is_not(scripts, tmp_path):
    contents = scripts("contents")
    for name, reader in contents.readers(tmp_path).items():
        for whole in reader.wholes:
            reader.read(reader.seal(whole))
        other = reader._replace(read=lambda content: content.no_such_name)
        assert "AttributeError" in contents.attempt(tmp_path, name, other, 0), name


def test_a_try_that_ends_its_process_is_counted_and_the_next_are_made(scripts, tmp_path, monkeypatch):
    limits = scripts("limits")
    monkeypatch.setattr(limits, "CORE_SECONDS", 0.3)
    monkeypatch.setattr(limits, "_WAIT", 2.0)
    tried = tmp_path / "tried"
    bodies = {
        0: lambda: None,
        1: lambda: os.kill(os.getpid(), signal.SIGKILL),
        2: lambda: sum(range(10**12)),  # which no handler in Python could stop
        3: lambda: time.sleep(1000),
        4: lambda: bytearray(2 * limits.BYTES),
        5: lambda: os._exit(3),
        6: lambda: "wrong",
    }

    def attempt(number):
        with tried.open("a") as file:
            file.write(str(number))
        try:
            return bodies[number]()
        except MemoryError:
            return "no memory"

    assert list(limits.tries(attempt, range(7))) == [
        None,
        "try 1: it ended its process with SIGKILL",
        "try 2: more than 0.3 s of a core",
        "try 3: no end after 2 s, twice",
        "no memory",
        "try 5: it ended its process with 3",
        "wrong",
    ]
    assert tried.read_text() == "01233456"


def test_without_ray_no_worker_is_killed_and_the_script_says_so(scripts, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    measure = scripts("measure")
    measure.go_on(measure.cluster_kills, 10, tmp_path / "faults.json")
    assert "nothing is tried, for Ray is not installed" in capsys.readouterr().out
    assert not (tmp_path / "faults.json").exists()


def test_workers_and_nodes_of_ray_are_killed_and_the_sweep_has_the_bits_of_one_process(scripts, tmp_path):
    pytest.importorskip("ray")
    workers, nodes = scripts("clusters").cluster_kills(tmp_path, 1)
    assert (workers.tried, nodes.tried, workers.wrong, nodes.wrong) == (4, 1, [], [])


def test_counts_go_on_where_they_were_until_there_is_nothing_more_to_try(scripts, tmp_path):
    measure, row, begun = scripts("measure"), scripts("trained").Row, []

    def fault(work, count, first):
        begun.append((count, first))
        found = row("a fault", "right")
        for number in range(first, min(first + count, 7)):
            found.count("wrong" if number == 1 else None)
        return found

    for count in (3, 5, 100):
        measure.go_on(fault, count, tmp_path / "faults.json", most=2)
    assert begun == [(2, 0), (1, 2), (2, 3), (2, 5), (4, 7)]
    (found,) = measure.page.counted(tmp_path / "faults.json")["fault"]
    assert (found.tried, found.wrong) == (7, ["wrong"])


def test_what_trains_is_watched_and_leaves_nothing(scripts, tmp_path):
    soak = scripts("soak")
    command = [*soak.TRAIN, *soak.SHORT, "--threads", "1"]
    samples, status, left = soak.watch(command, tmp_path / "run", minutes=0.05, every=0.2)
    assert (status, left) == (130, 0)
    assert len(samples) > 2
    for one in samples:
        assert one.memory > 50 << 20
        assert (one.descriptors > 2, one.threads > 0, one.processes > 0) == (True, True, True)


def test_what_a_process_leaves_and_what_grows_is_found(scripts, tmp_path):
    soak = scripts("soak")
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "part-00000-end.parquet").touch()
    script = "import subprocess, time\nsubprocess.Popen(['sleep', '60'])\ntime.sleep(60)"
    samples, status, left = soak.watch([sys.executable, "-c", script], tmp_path, minutes=0.02, every=0.1)
    assert (status, left, samples[-1].processes) == (-15, 1, 2)
    grown = [soak.Sample(minute, 100_000 + 60 * minute, 4 + minute // 50, 3, 1) for minute in range(60)]
    wrong = soak.findings(grown, 1, 1, finished={0, 130})
    assert [text.partition(" ")[0] for text in wrong] == ["the", "1", "memory", "descriptors"]
    assert soak.findings([one._replace(memory=10, descriptors=4) for one in grown], 0, 0, finished={0, 130}) == []


def test_a_simulated_cluster_without_deaths_takes_what_its_batches_take(scripts):
    scaling = scripts("scaling")
    cluster = scaling.Cluster(workers=2, start=10.0, between_deaths=1e18)
    found = scaling.simulate([100.0, 100.0, 100.0, 40.0], cluster)
    assert (found.seconds, found.used, found.deaths) == (220.0, 380.0, 0)


def test_a_simulated_death_costs_no_more_than_a_checkpoint_and_a_start(scripts):
    scaling = scripts("scaling")
    cluster = scaling.Cluster(workers=64, start=10.0, checkpoint=300.0, between_deaths=20_000.0)
    work = [10_000.0] * 200
    found = scaling.simulate(work, cluster)
    assert found.deaths > 0
    assert sum(work) + 200 * 10.0 < found.used < sum(work) + 200 * 10.0 + found.deaths * 32 * 310.0 + 64 * 310.0
