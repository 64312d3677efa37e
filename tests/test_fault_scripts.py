"""The scripts that try faults and simulate clusters, in short: what they count is nowhere wrong."""

import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS / "faults"))
    monkeypatch.syspath_prepend(str(SCRIPTS))
    names = ("interruptions", "contents", "trained", "scaling")
    yield lambda name: __import__(name)
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("name", "count"), [("kills", 4), ("full_disks", 6), ("power_cuts", 6), ("two_processes", 2)])
def test_an_interrupted_run_goes_on_to_the_same_bytes(scripts, name, count, tmp_path):
    row = getattr(scripts("interruptions"), name)(tmp_path, count)
    assert (row.tried >= 2, row.wrong) == (True, [])


def test_damaged_files_of_a_run_are_the_documented_error(scripts, tmp_path):
    row = scripts("contents").files_of_a_run(tmp_path, 20)
    assert (row.tried, row.wrong) == (20, [])


def test_damaged_inputs_are_the_documented_error(scripts, tmp_path):
    for row in scripts("contents").inputs(tmp_path, 30):
        assert (row.tried, row.wrong) == (30, []), row.what


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
