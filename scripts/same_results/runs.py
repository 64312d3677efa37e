"""Short runs of the built-in networks: every value of every option at least once, most with each engine and network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fastplast as fp

from .digests import Entries, add_run, command

ENGINES = ("cpu", "vmap")
SMALL = {"tasks": 2, "epochs": 1, "examples": 64, "seeds": 2, "threads": 1}
_PAIRS = {"benchmark": "class_pairs", "dataset": "cifar10", "test_examples": 8}
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"widths": (12, 10, 8)},
    "mlp13": {"network": "mlp13", "widths": (8,) * 12, "examples": 48},
    "cnn": {"benchmark": "cifar_shuffle", "widths": (9, 8), "channels": (4, 5), "examples": 48},
    "convnet": {**_PAIRS, "network": "convnet", "widths": (9, 8), "channels": (4, 5, 3), "examples": 48,
                "batch_size": 16},
}  # fmt: skip
_RATES = {"learning_rate": (1e-2, 1e-3)}
# Each goes with every engine and network.
VARIATIONS: dict[str, dict[str, Any]] = {
    "adam": {**_RATES, "srank": "both", "epoch_curves": True},
    "adamw l2": {"optimizer": "adamw", "weight_decay": 0.01, "method": "l2", "strength": (0.1, 0.0),
                 "reduction": "sum"},
    "sgd regenerative": {"optimizer": "sgd", "momentum": 0.9, "method": "regenerative", "strength": (0.1, 0.01)},
    "wasserstein": {**_RATES, "method": "wasserstein", "strength": (0.1, 0.01), "pixel_range": "symmetric"},
    "wasserstein sum": {"method": "wasserstein", "strength": 0.01, "reduction": "sum", "activation": "tanh",
                        "optimizer": "sgd", "weight_decay": 0.01, "init": "kaiming_uniform"},
    "crelu": {"activation": "crelu", "init": "torch_default", "srank": "off"},
    "crelu wasserstein": {"activation": "crelu", "method": "wasserstein", "strength": 0.1, "layer_norm": True,
                          "dropout": 0.1, "srank": "off"},
    "layer norm": {"layer_norm": True, "activation": "tanh", "head_reset": "reinit", "srank_every": 2},
    "dropout": {"dropout": 0.2, "activation": "leaky_relu", "leaky_slope": 0.1, "head_reset": "zero"},
    "identity": {"activation": "identity", "init": "lecun_normal", "pixel_range": "standardized", "optimizer": "adamw",
                 "weight_decay": 0.1, "beta1": 0.8, "beta2": 0.99, "epsilon": 1e-6},
}  # fmt: skip
_MLP = NETWORKS["mlp"]
_MEMBERS = [
    {"seed": 3, "learning_rate": 1e-2, "method": "none", "strength": 0.0, "beta1": 0.5},
    {"seed": 3, "learning_rate": 1e-3, "method": "l2", "strength": 0.1, "beta2": 0.9, "epsilon": 1e-4},
    {"seed": 1, "learning_rate": 1e-3, "method": "regenerative", "strength": 0.2, "weight_decay": 0.1},
    {"seed": 1, "learning_rate": 1e-2, "method": "wasserstein", "strength": 0.01},
]
# Each goes with both engines, on the perceptron where it names no other network.
PROBLEMS: dict[str, dict[str, Any]] = {
    "label shuffle class": {"label_shuffle": "class"},
    "label shuffle iid": {"label_shuffle": "iid", "change_first_task": False, "subset": "fixed"},
    "mnist permute": {"benchmark": "mnist_permute", "change_first_task": False},
    "cifar permute": {**NETWORKS["cnn"], "benchmark": "cifar_permute"},
    "cifar perceptron": {"benchmark": "cifar_shuffle", "network": "mlp", "pixel_range": "standardized"},
    "shuffle of another dataset": {"benchmark": "label_shuffle", "dataset": "cifar10"},
    "class pairs mlp": {**_PAIRS, "network": "mlp", "dataset": "mnist", "tasks": 3, "batch_size": 16},
    "class pairs redraw": {**_PAIRS, "network": "mlp", "class_order": "redraw", "tasks": 7, "examples": 16,
                           "batch_size": 16, "subset": "per-seed", "srank": "off"},
    "class pairs repeat": {**_PAIRS, "network": "mlp", "class_order": "repeat", "tasks": 7, "examples": 16,
                           "batch_size": 16, "srank": "off"},
    "continual imagenet on cifar10": {**NETWORKS["convnet"], "benchmark": "continual_imagenet"},
    "list of members": {"member_list": _MEMBERS, "seeds": 10},
    "list of members sum": {"member_list": _MEMBERS, "seeds": 10, "reduction": "sum", "activation": "tanh"},
    "coupled decay": {"optimizer": "adamw", "weight_decay_mode": "coupled", "weight_decay": 0.1},
    "decoupled decay": {"optimizer": "adam", "weight_decay_mode": "decoupled", "weight_decay": 0.1},
    "sgd decoupled": {"optimizer": "sgd", "weight_decay_mode": "decoupled", "weight_decay": 0.1, "momentum": 0.5},
    "diverged": {"learning_rate": (1e-3, 1e30), "epoch_curves": True},
    "batches of unequal size": {"examples": 50, "batch_size": 12, "epochs": 2, "seeds": (7, 2, 5), "srank": "both"},
    "seed start": {"seed_start": 5, "seeds": 2, "epoch_curves": True, "probe_every": 2, "tasks": 3, "srank_every": 3},
    "srank exact": {"srank_method": "exact", "widths": (12, 40, 10), "srank": "both"},
    "srank truncated": {"srank_method": "truncated", "widths": (12, 40, 10), "srank": "both"},
    "srank lanczos": {"srank_method": "lanczos", "widths": (12, 40, 10), "srank": "both"},
    "srank auto": {"srank_method": "auto", "widths": (12, 40, 10), "srank": "both"},
    "two threads": {"threads": 2, "seeds": 3, "method": "wasserstein", "strength": 0.1},
    "overlap": {"overlap": True, "threads": 2, "tasks": 3},
    "default widths": {"examples": 32, "tasks": 1, "srank": "off"},
}  # fmt: skip


def cases() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every run: its name, and its fields."""
    for engine in ENGINES:
        for network, fields in NETWORKS.items():
            for name, more in VARIATIONS.items():
                yield f"{engine} {network} {name}", SMALL | fields | {"engine": engine} | more
        for name, more in PROBLEMS.items():
            given = SMALL | (_MLP if name != "default widths" else {}) | {"engine": engine} | more
            if "member_list" in given:
                del given["seeds"]
            yield f"{engine} {name}", given


def built_in(entries: Entries) -> None:
    """Runs through Python, and two through the command line, whose words and texts count too."""
    for number, (name, fields) in enumerate(cases()):
        add_run(entries, name, fp.train(fp.Experiment(**fields, out=f"run-{number}")))
    words = ["--seeds", "3,1", "--learning-rate", "1e-2,1e-3", "--method", "l2", "--strength", "0.1", "0.01", "--tasks"]
    words += ["2", "--epochs", "2", "--examples", "48", "--widths", "12", "8", "--threads", "1", "--out", "typed"]
    done = command("train", *words)
    # Rates, seconds and what follows from them are in each line; what is stored of the errors is in the metrics.
    entries["typed/lines"] = "\n".join(line.split("  ")[0] for line in done.out.splitlines()[:-1])
    add_run(entries, "typed", fp.load("typed"))
    entries["again"] = command("train", "--config", "typed/config.json", "--quiet", "--out", "again").text
    add_run(entries, "again", fp.load("again"))
    entries["of Run"] = f"{fp.load('typed')!r} {fp.load('typed').is_finished}"
    entries["status"] = _state(command("status", "typed").out)


def _state(text: str) -> str:
    """A status without its rate, and without its bytes on disk, which lines of times are among."""
    return "\n".join(line for line in text.splitlines() if line.split()[0] not in ("rate", "disk", "left"))
