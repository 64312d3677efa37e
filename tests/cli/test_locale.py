"""A locale in which numbers have a decimal comma changes nothing that is trained, printed or written."""

import locale
import shutil
import subprocess
from pathlib import Path

import pytest
from small_runs import small

import fastplast as fp
from fastplast.cli.main import run

GRID = 'benchmark = "mnist_shuffle"\nlearning-rate = [1e-3, 0.01]\nseeds = 1\ntasks = 1\nepochs = 1\nexamples = 32\n'
COMMANDS = (
    ["export", "run", "--out", "run.csv"],
    ["table", "run", "--csv"],
    ["plot", "run", "--out", "run.svg"],
    ["sweep", "--grid", "grid.toml", "--out", "sweep", "--widths", "8,6,5", "--quiet", "--yes"],
    ["export", "sweep", "--out", "sweep.csv"],
)


@pytest.fixture
def comma(tmp_path, monkeypatch):
    """Sets a locale with a decimal comma when it is called; made here, since few machines have one."""
    if not shutil.which("localedef") or not Path("/usr/share/i18n/locales/de_DE").exists():
        pytest.skip("needs localedef and the sources of locales")
    command = ["localedef", "-i", "de_DE", "-f", "UTF-8", str(tmp_path / "de_DE.UTF-8")]
    subprocess.run(command, check=True, capture_output=True)
    monkeypatch.setenv("LOCPATH", str(tmp_path))
    before = locale.setlocale(locale.LC_ALL)
    yield lambda: locale.setlocale(locale.LC_ALL, "de_DE.UTF-8")
    locale.setlocale(locale.LC_ALL, before)


@pytest.mark.parametrize("engine", ["cpu", "vmap"])
def test_a_decimal_comma_changes_nothing(engine, comma, tmp_path, monkeypatch, capsys):
    printed = []
    for name in ("point", "comma"):
        if name == "comma":
            comma()
            assert locale.localeconv()["decimal_point"] == ","
        place = tmp_path / name
        place.mkdir()
        monkeypatch.chdir(place)
        Path("grid.toml").write_text(GRID)
        fp.train(small(place / "run", tasks=2, method="l2", strength=(0.0, 0.01), engine=engine), progress=False)
        for words in COMMANDS:
            assert run(words) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    for path in ("run.csv", "run.svg", "sweep.csv", "run/config.json", "run/metrics/part-00001-end.parquet"):
        assert (tmp_path / "point" / path).read_bytes() == (tmp_path / "comma" / path).read_bytes(), path
