"""Numbers that are typed, in flags, in grid files, in configurations and in Python: one rule."""

import re

import pytest

from fastplast.cli.flags import pairs_of
from fastplast.cli.main import run
from fastplast.cli.parser import build_parser
from fastplast.config import ConfigError, Experiment, load_config
from fastplast.config.numbers import read_number, spelling_advice
from fastplast.sweeps import read_grid

NUMBERS = ["10", "-3", "1_000", "0", "0.5", "1e-3", "1E5", "2.50", "10.0", "-0.0"]  # as all of them write
PYTHONS = [".5e3", "5.", "+7", ".5"]  # without a digit beside the point, as flags and Python do
NONE = ["010", "00", "-01", "007.5", "0,5", "0x10", "1e", "ten", "", "1 0", "½", "²"]


@pytest.mark.parametrize("text", [*NUMBERS, *PYTHONS])
def test_a_flag_reads_what_python_reads(text):
    found, expected = read_number(text), eval(text)
    assert (found, type(found)) == (expected, type(expected))
    option = build_parser().parse_args(["sweep", f"--learning-rate={text},1"])
    assert option.learning_rate == [[expected, 1]]
    assert pairs_of("where", [f"a={text}"], several=True) == {"a": [float(expected)]}


@pytest.mark.parametrize("text", NUMBERS)
def test_a_grid_file_reads_what_a_flag_reads(text, tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(f"learning_rate = {text}\n")
    (cross,) = read_grid(path)
    found, expected = cross.values["learning_rate"], read_number(text)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("text", NONE)
def test_what_is_no_number_is_none_anywhere(text, tmp_path, capsys):
    with pytest.raises(ValueError, match=re.escape(text.strip() or "''")):
        read_number(text)
    for flag in ("--epochs", "--dropout", "--momentum"):
        assert run(["train", f"{flag}={text}"]) == 2
        assert "must be a" in capsys.readouterr().err
    grid, config = tmp_path / "grid.toml", tmp_path / "config.json"
    grid.write_text(f"epochs = {text}\n", encoding="utf-8")
    config.write_text(f'{{"epochs": {text}}}', encoding="utf-8")
    with pytest.raises(ConfigError):
        load_config(config)
    if text != "0x10":  # sixteen, of which Python and TOML know, but nobody who types a step size
        with pytest.raises(ConfigError):
            read_grid(grid)


@pytest.mark.parametrize("text", ["010", "1e-3", "ten"])
def test_a_text_is_no_number_in_python_and_files(text):
    for name in ("epochs", "learning_rate", "dropout", "strength", "seeds", "widths"):
        with pytest.raises(ConfigError, match="must be"):
            Experiment(**{name: text}, method="l2")


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("0,5", " Write a decimal point: 0.5."),
        ("1,5e3", " Write a decimal point: 1.5e3."),
        ("010", " Write numbers without leading zeros: 10 for 010."),
        (" [1, 010]", " Write numbers without leading zeros: 10 for 010."),
        (" .5e3", " Write a digit before the point: 0.5 for .5."),
        ("ten", ""),
        ("1.05", ""),
        ("[0, 10, 0.5]", ""),
    ],
)
def test_a_number_that_is_spelled_otherwise_is_answered_with_how_to_spell_it(text, advice):
    assert spelling_advice(text) == advice


def test_errors_of_flags_and_files_say_how_to_spell_it(tmp_path, capsys):
    for words, told in (
        (["--dropout", "0,5"], "--dropout must be a number: got '0,5'. Write a decimal point: 0.5."),
        (["--epochs", "010"], "--epochs must be a whole number: got '010'. Write numbers without leading zeros"),
        (["--strength", "0,05"], "--strength must be numbers: got '0,05'. Write a decimal point: 0.05."),
    ):
        assert run(["train", *words]) == 2
        assert told in capsys.readouterr().err
    grid, config = tmp_path / "grid.toml", tmp_path / "config.json"
    grid.write_text("seeds = 2\nlearning_rate = [1e-3, .5e3]\n")
    with pytest.raises(ConfigError, match=r"must be TOML: .*at line 2.*Write a digit before the point: 0.5 for .5."):
        read_grid(grid)
    config.write_text('{"seeds": 2,\n"epochs": 010}')
    with pytest.raises(ConfigError, match=r"must be JSON: .*Write numbers without leading zeros: 10 for 010."):
        load_config(config)
