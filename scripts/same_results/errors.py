"""Texts of errors: wrong inputs on the command line, in Python, in files, and of results that do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fastplast as fp

from .digests import Entries, command, said

_MEMBER = {"seed": 0, "learning_rate": 0.1, "method": "none", "strength": 0.0}
# Of Experiment; what is wrong in each is one rule.
FIELDS: tuple[dict[str, Any], ...] = (
    {"benchmark": "mnist_shufle"}, {"benchmark": None}, {"method": "waserstein", "strength": 0.1},
    {"activation": "rleu"}, {"network": "mpl"}, {"optimizer": "adm"}, {"init": "glorot"}, {"engine": "gpu"},
    {"device": "tpu"}, {"srank": "never"}, {"srank_method": "lanczo"}, {"reduction": "avg"}, {"subset": "all"},
    {"label_shuffle": "examples"}, {"pixel_range": "bytes"}, {"class_order": "again"}, {"head_reset": "one"},
    {"weight_decay_mode": "split"}, {"network": "zzz"},
    {"tasks": 0}, {"epochs": -1}, {"examples": 2.0}, {"batch_size": "3"}, {"srank_every": True}, {"probe_every": 0},
    {"threads": 0}, {"seed_start": -1}, {"test_examples": 1.5}, {"change_first_task": 1}, {"layer_norm": "yes"},
    {"epoch_curves": None}, {"data_dir": ""}, {"out": 3}, {"learning_rate": ()}, {"learning_rate": (1e-3, 0)},
    {"learning_rate": float("nan")}, {"method": "l2", "strength": (0.1, -0.1)}, {"method": "l2", "strength": ()},
    {"widths": ()}, {"widths": (8, 0)}, {"channels": (8.5,)}, {"leaky_slope": 1.0}, {"momentum": "0.9"},
    {"beta1": True}, {"beta2": 2.0}, {"dropout": 1.0}, {"weight_decay": -1e-4}, {"epsilon": 0.0},
    {"checkpoint_minutes": 0}, {"seeds": 0}, {"seeds": ()}, {"seeds": (1, -1)}, {"seeds": "3"}, {"seeds": (3, 4, 3)},
    {"seeds": (3,), "seed_start": 5}, {"examples": 16, "batch_size": 32}, {"strength": 0.1}, {"method": "l2"},
    {"learning_rate": (0.1, 0.1)}, {"method": "l2", "strength": (1, 1.0)}, {"channels": (8,)}, {"momentum": 0.9},
    {"engine": "cpu", "device": "cuda"}, {"engine": "cuda", "device": "cpu"}, {"tf32": True}, {"compile": True},
    {"benchmark": "label_shuffle"}, {"dataset": "minst"}, {"dataset": 3}, {"test_examples": 8},
    {"benchmark": "class_pairs", "dataset": "cifar10", "examples": 101},
    {"benchmark": "class_pairs", "dataset": "cifar10", "test_examples": 11},
    {"member_list": []}, {"member_list": [_MEMBER, _MEMBER]}, {"member_list": [_MEMBER | {"strength": 0.3}]},
    {"member_list": [_MEMBER | {"learning_rate": -0.1}]}, {"member_list": [_MEMBER | {"seed": -1}]},
    {"member_list": [{"seed": 0}]}, {"member_list": [{"sed": 0}]}, {"member_list": [_MEMBER], "seeds": 3},
    {"member_list": 3}, {"member_list": [4]},
)  # fmt: skip
# Of fp.train, which refuses them before it makes a directory. What it says of GPUs depends on the machine.
TRAINED: tuple[dict[str, Any], ...] = (
    {"examples": 100_000_000}, {"widths": (400, 300)}, {"benchmark": "fashion_shuffle"}, {"dataset": "./absent"},
    {"dataset": "./absent.npz"}, {"dataset": "./text.npz"}, {"dataset": "./empty"}, {"data_dir": "absent"},
    {"benchmark": "continual_imagenet", "examples": 100}, {"network": "convnet", "channels": (4, 5, 3, 2)},
    {"benchmark": "class_pairs", "dataset": "mnist", "examples": 2000, "srank": "off"},
    {"out": "taken"}, {"out": "text.npz"}, {"widths": (9,), "activation": "crelu"},
    {"widths": (8,), "srank_method": "exact"},
)  # fmt: skip
COMMANDS: tuple[str, ...] = (
    "", "trian", "train --epochs x", "train --epochs 2.5", "train --beta1 x", "train --learning-rate 1e-3,x",
    "train --benchmark mnist_shufle", "train --batch-size 2000", "train --memory 80", "train --memory 0 --dry-run",
    "train --memory x", "train --config absent.json", "train --config list.json", "train --config broken.json",
    "train --config unknown.json", "train --config wrong.json", "train --network module:Net", "train --unknown",
    "train --out taken", "train --tf32", "train --compile", "train --layer-norm 3", "train --method l2",
    "train --tensorboard text.npz", "train --examples 100000000",
    "resume", "resume absent", "resume taken", "resume run --tasks 5", "resume run --seeds 3 --benchmark cifar_shuffle",
    "resume run --shard 0/2", "resume run --method waserstein", "resume sweep --tasks 3", "resume sweep --shard 2/2",
    "resume forgotten", "status absent", "status taken", "status text.npz", "status .", "plot", "plot absent",
    "plot run --columns eror", "plot run --columns error@middle", "plot run --log loss", "plot run --formats gif",
    "plot run --columns", "plot taken", "plot run --columns method", "plot none.parquet",
    "figure", "figure 28", "figure x", "figure 1 --scale huge", "figure 1 --from taken", "figure 1 --from absent",
    "figure 4 --from run", "figure 7 --from run", "figure 1 --formats gif", "report", "report absent", "report taken",
    "list", "list network", "data", "data fetch", "data fetch minst", "data fetch imagenet32",
    "data fetch mnist --source files", "data fetch mnist --source files --from absent", "data fetch mnist --source web",
    "export", "export absent", "export none.parquet", "export run --out table.txt/x.csv", "srank validate --size 10",
    "srank validate absent", "srank check", "sweep --grid g.json", "sweep --grid absent.toml", "sweep --out taken",
    "sweep --shard 3/3", "sweep --shard a/2", "sweep --shard 1", "sweep --memory -1", "sweep --memory 0.0001",
    "sweep --batch x", "sweep --strength 0.1", "sweep --activation relu relu", "sweep --widths 400,300 8,6",
    "sweep --engine cpu vmap", "sweep --method l2", "sweep --seeds 2000000", "sweep --momentum 0.9",
)  # fmt: skip
GRIDS: tuple[str, ...] = (
    'seeds = 2\nactivaton = "relu"\n', '\n[[cross]]\nmethod = "l2"\n[[cross]]\nmethods = "l2"\n',
    '[[cross]]\nmethod = "none"\nstrength = [1, 0.1]\n', 'seeds = 1\n[[cross]]\nmethod = ["none", "l2"]\n',
    "seeds = 2\nlearning-rate = []\n", "seeds = 2\nlearning-rate = [0.1, 0.1]\n",
    'seeds = 2\n\nactivation = ["relu", "rely"]\n', "momentum = 0.9\n", "epochs = [1, 0]\n",
    '[[cross]]\nengine = "cpu"\n', 'engine = ["cpu", "vmap"]\n', "seeds = [1, 1]\n", "seeds = 1\nseeds = 2\n",
    "seeds = \n", "cross = 3\n", "[optimizer]\nbeta1 = 0.5\n", "beta1 = 0.5\nbeta-1 = 0.5\n",
    "batch-size = 16\nbatch_size = 16\n", "seeds = 2000000\n", 'cross = [1]\n', "seed-start = [1, 2]\n",
)  # fmt: skip
YAML: tuple[str, ...] = (
    "seeds: 2\nactivaton: relu\n", "cross:\n  - method: l2\n    strength: 1\n  - method: l3\n    strength: 1\n",
    "seeds: [1\nlearning: 3", "seeds: 1\nseeds: 2\n", "- 1\n",
)  # fmt: skip
SWEEPS: tuple[Any, ...] = (
    [], {"activaton": "relu"}, {"method": "l2"}, {"strength": [0.1]}, {"learning_rate": []}, {"out": "x"},
    {"widths": [[6, 5, 4], [400, 300]]}, {"examples": [48, 100_000]}, {"threads": [1, 2]}, {"beta1": {"a": 1}},
    [{"threads": 1}, {"threads": 2}], {"activation": ["relu", "rely"]}, {"seeds": 2_000_000},
)  # fmt: skip


def wrong_inputs(entries: Entries) -> None:
    """Every wrong input with what is said of it."""
    _prepare()
    for values in FIELDS:
        entries[f"Experiment {_name(values)}"] = said(lambda values=values: fp.Experiment(**values))
    small = {"seeds": 1, "tasks": 1, "epochs": 1, "threads": 1}
    for values in TRAINED:
        e = small | {"examples": 32, "out": f"new-{len(entries)}"} | values
        entries[f"train {_name(values)}"] = said(lambda e=e: fp.train(fp.Experiment(**e)))
    for line in COMMANDS:
        entries[f"command {line}"] = command(*line.split()).text
    for ending, grids in (("toml", GRIDS), ("yaml", YAML)):
        for text in grids:
            Path(f"grid.{ending}").write_text(text, encoding="utf-8")
            entries[f"{ending} {text!r}"] = command(
                "sweep", "--grid", f"grid.{ending}", "--out", f"new-{len(entries)}"
            ).text
    for grid in SWEEPS:
        entries[f"sweep {_name(grid)}"] = said(lambda grid=grid: fp.sweep(grid, f"new-{len(entries)}"))
    entries["sweep into a directory of something else"] = said(lambda: fp.sweep({}, "taken"))
    entries["sweep without memory"] = said(lambda: fp.sweep({}, f"new-{len(entries)}", memory=1e-4))
    _of_results(entries)
    entries["left over"] = " ".join(sorted(str(path) for path in Path().iterdir()))


def _name(values: Any) -> str:
    return json.dumps(values, default=repr)


def _prepare() -> None:
    for name in ("taken", "empty"):
        Path(name).mkdir()
    Path("taken/notes.txt").write_text("mine", encoding="utf-8")
    for name, text in {"text.npz": "text", "list.json": "[1]", "broken.json": "{", "unknown.json": '{"task": 3}',
                       "wrong.json": '{"tasks": 0}', "table.txt": "x"}.items():  # fmt: skip
        Path(name).write_text(text, encoding="utf-8")
    small = {"seeds": 2, "tasks": 1, "epochs": 1, "examples": 32, "widths": (8, 6), "threads": 1, "srank": "off"}
    fp.train(fp.Experiment(**small, out="run"))
    fp.sweep(small | {"widths": [8, 6]}, "sweep", memory=1)
    fp.sweep(small | {"widths": [8, 6]}, "forgotten", memory=1)
    Path("forgotten/grid.json").unlink()


def _of_results(entries: Entries) -> None:
    """What readers of results say, and of results that were damaged."""
    run = fp.load("run")
    calls = {
        "metrics in an unknown format": lambda: run.metrics("panda"),
        "spectra that are not there": lambda: run.spectra(0),
        "spectra of an unknown time": lambda: run.spectra(0, "middle"),
        "epochs that are not there": run.epochs,
        "epochs of a sweep": fp.load("sweep").epochs,
        "spectra of a sweep": lambda: fp.load("sweep").spectra(0),
        "load nothing": lambda: fp.load("absent"),
        "load a directory of runs": lambda: fp.load("."),
        "load a file that is none": lambda: fp.load("none.parquet"),
        "load files": lambda: fp.load("a.parquet", "b"),
        "Sweep of no sweep": lambda: fp.Sweep("run"),
        "Run of no run": lambda: fp.Run("sweep"),
        "report of nothing": lambda: fp.report([]),
        "train into a run": lambda: fp.train(fp.Experiment(out="run")),
        "from_dict": lambda: fp.Experiment.from_dict({"learnig_rate": 0.1}, "my.json"),
        "from_dict of a wrong value": lambda: fp.Experiment.from_dict({"epochs": 0}, "my.json"),
    }
    for name, call in calls.items():
        entries[name] = said(call)
    config = Path("run/config.json")
    stored = config.read_text(encoding="utf-8")
    config.write_text(stored.replace('"epochs": 1', '"epochs": 2'), encoding="utf-8")
    entries["resume of a changed configuration"] = said(lambda: fp.resume("run"))
    config.write_text("{", encoding="utf-8")
    entries["resume of a damaged configuration"] = said(lambda: fp.resume("run"))
    config.write_text(stored, encoding="utf-8")
    env = Path("run/env.json")
    env.write_text(env.read_text(encoding="utf-8").replace('"schema_version": 1', '"schema_version": 99'))
    entries["another schema"] = said(lambda: fp.load("run"))
