"""Inputs of the user's own: modules, images in memory and on disk, and a method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

import fastplast as fp

from .digests import Entries, add_run, said, value_digest
from .runs import ENGINES, SMALL


def module() -> nn.Module:
    """A network that is none of the built-in ones."""
    hidden = [nn.Linear(784, 12), nn.LayerNorm(12), nn.GELU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 10))


def wide() -> nn.Module:
    """A network whose Hessian block is too large to be measured."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 10))


def convolutions() -> nn.Module:
    """A network with convolutions that is none of the built-in ones."""
    return nn.Sequential(nn.Conv2d(3, 3, 5, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(147, 6), nn.Linear(6, 10))


def images() -> tuple[np.ndarray, np.ndarray]:
    """Bytes `[R, C, H, W]` and labels that need no random numbers, whose streams NumPy may change."""
    pixels = (np.arange(90 * 144, dtype=np.int64) ** 2 % 8191 % 256).astype(np.uint8)
    return pixels.reshape(90, 1, 12, 12), np.arange(90) * 7 % 5


def own(entries: Entries) -> None:
    """Modules and datasets."""
    from fastplast.data import from_arrays

    for name, factory, fields in (
        ("module", module, {"srank": "both", "method": "wasserstein", "strength": (0.1, 0.01), "epoch_curves": True}),
        ("module sgd", module, {"srank": "off", "optimizer": "sgd", "momentum": 0.9, "pixel_range": "symmetric"}),
        ("convolutions", convolutions, {"benchmark": "cifar_shuffle", "method": "l2", "strength": 0.1}),
    ):
        run = fp.train(fp.Experiment(**SMALL | fields, out=name.replace(" ", "-")), network=factory)
        add_run(entries, name, run)
    for field in ({"head_reset": "zero"}, {"overlap": True}, {"engine": "cpu"}, {"srank": "start"}):
        wrong = fp.Experiment(**SMALL | {"srank": "off"} | field, out=f"wrong-{next(iter(field))}")
        entries[f"module/wrong {field}"] = said(lambda wrong=wrong: fp.train(wrong, network=wide))
    entries["resume without module"] = said(lambda: fp.resume("module"))
    add_run(entries, "resume with module", fp.resume("module", network=module), whole=False)

    pixels, labels = images()
    dataset, widths = from_arrays(pixels, labels), (10, 8)
    entries["arrays/dataset"] = value_digest([dataset.images, dataset.labels, dataset.shape, dataset.num_classes])
    np.savez("mine.npz", images=pixels, labels=labels)
    _write_folder(pixels, labels)
    for engine in ENGINES:
        fields: dict[str, Any] = SMALL | {"benchmark": "label_shuffle", "widths": widths, "engine": engine}
        e = fp.Experiment(**fields, dataset="./mine", out=f"arrays-{engine}")
        add_run(entries, f"arrays {engine}", fp.train(e, dataset=dataset))
        for place in ("./mine.npz", "./folder"):
            e = fp.Experiment(**fields, dataset=place, out=f"{Path(place).name}-{engine}".replace(".", "-"))
            add_run(entries, f"{place} {engine}", fp.train(e))
        pairs = fields | {"benchmark": "class_pairs", "network": "mlp", "examples": 16, "batch_size": 8}
        e = fp.Experiment(**pairs, test_examples=4, dataset="./mine", out=f"pairs-{engine}")
        add_run(entries, f"pairs of arrays {engine}", fp.train(e, dataset=dataset))
    for name, wrong in (
        ("labels", (pixels, labels[:5])),
        ("floats", (pixels.astype(np.float64), labels)),
        ("shape", (pixels[0], labels)),
        ("negative", (pixels, labels - 1)),
    ):
        entries[f"arrays/wrong {name}"] = said(lambda wrong=wrong: from_arrays(*wrong))


def _write_folder(pixels: np.ndarray, labels: np.ndarray) -> None:
    from PIL import Image

    for number, (image, label) in enumerate(zip(pixels, labels)):
        place = Path("folder") / f"class{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(place / f"{number:03d}.png")


def own_method(entries: Entries) -> None:
    """The tutorial's method, which stays registered in this process."""
    from fastplast.methods import Method, register

    halfway = Method(lambda init, layout: init / 2, False, "weights are pulled to half their initial values", "here")
    ranked = Method(lambda init, layout: init / 2, True, "and dealt out by rank", "here")
    entries["known name"] = said(lambda: register("l2", halfway))
    entries["unknown name"] = said(lambda: fp.Experiment(method="halfway", strength=0.1))
    register("halfway", halfway)
    register("ranked", ranked)
    entries["close name"] = said(lambda: fp.Experiment(method="halfwy", strength=0.1))
    for engine in ENGINES:
        for method in ("halfway", "ranked"):
            fields = SMALL | {"widths": (12, 10, 8), "engine": engine, "method": method, "strength": (0.1, 0.01)}
            add_run(entries, f"{method} {engine}", fp.train(fp.Experiment(**fields, out=f"{method}-{engine}")))
