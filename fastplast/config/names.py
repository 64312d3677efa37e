"""Known names: the choices of every field that takes a name, and what the benchmarks preset."""

from __future__ import annotations

import os
from typing import Any

from fastplast.config.definitions import DEFINITIONS_ON_REQUEST

ELEMENTWISE = ("relu", "leaky_relu", "tanh", "identity")
ACTIVATIONS = (*ELEMENTWISE, "crelu")
VMAP_ACTIVATIONS = ("fourier", "smooth_leaky")  # which kernels do not have
DATASET_NAMES = ("mnist", "fashion_mnist", "cifar10", "imagenet32", "bits")
INITS = ("glorot_uniform", "torch_default", "lecun_normal", "kaiming_uniform")
# Methods known to this process, and whether they take a strength; fastplast.methods.register adds those of the user.
TAKES_STRENGTH = {"none": False, "l2": True, "regenerative": True, "wasserstein": True}
PULLS = tuple(TAKES_STRENGTH)  # what every engine's fused update serves: weights pulled to a target, or not
TAKES_STRENGTH |= dict.fromkeys(("cbp", "redo", "snr", "regrama", "shrink_perturb", "clip", "upgd"), False)
TAKES_STRENGTH |= dict.fromkeys(("hare_tortoise", "noise", "full_reset"), False)
TAKES_STRENGTH |= {"spectral": True, "parseval": True, "fire": False, "dash": False, "nap": False, "c_chain": True}
METHOD_NAMES = tuple(TAKES_STRENGTH)
NETWORK_NAMES = ("mlp", "mlp13", "cnn", "convnet")  # lists of layers, which every engine trains
MODULE_NETWORKS = ("resnet18", "resnet18_gn")  # which the engine vmap trains
OPTIMIZERS = ("adam", "adamw", "sgd")
LOSSES = ("cross_entropy", "mse")  # of a problem: its labels are classes, or numbers
METRIC_NAMES = tuple(DEFINITIONS_ON_REQUEST)

# Tasks, and network: the paper's appendix B. Datasets without a row there take MNIST's. Those called
# as their change are what a benchmark of another dataset than its own is called in the results.
_PAIRS = {
    "change": "class_pairs",
    "outputs": 2,
    "network": "convnet",
    "examples": 1200,
    "test_examples": 200,
    "batch_size": 100,
}
_GROWING = {"network": "cnn", "test_examples": 0}  # of which a share may be kept for testing
BENCHMARKS: dict[str, dict[str, Any]] = {
    "mnist_shuffle": {"dataset": "mnist", "change": "label_shuffle", "tasks": 100, "network": "mlp"},
    "mnist_permute": {"dataset": "mnist", "change": "pixel_permute", "tasks": 100, "network": "mlp"},
    "fashion_shuffle": {"dataset": "fashion_mnist", "change": "label_shuffle", "tasks": 100, "network": "mlp"},
    "fashion_permute": {"dataset": "fashion_mnist", "change": "pixel_permute", "tasks": 100, "network": "mlp"},
    "cifar_shuffle": {"dataset": "cifar10", "change": "label_shuffle", "tasks": 50, "network": "cnn"},
    "cifar_permute": {"dataset": "cifar10", "change": "pixel_permute", "tasks": 50, "network": "cnn"},
    "continual_imagenet": {"dataset": "imagenet32", "tasks": 500, "subset": "fixed", **_PAIRS},
    "label_shuffle": {"dataset": None, "change": "label_shuffle", "tasks": 100, "network": "mlp"},
    "pixel_permute": {"dataset": None, "change": "pixel_permute", "tasks": 100, "network": "mlp"},
    "class_pairs": {"dataset": None, "tasks": 500, **_PAIRS},
    "label_drift": {"dataset": None, "change": "label_drift", "tasks": 100, "network": "mlp"},
    "class_incremental": {"dataset": "cifar10", "change": "class_incremental", "tasks": 5, **_GROWING},
    "five_plus_one": {
        "dataset": None,
        "change": "five_plus_one",
        "tasks": 30,
        **_GROWING,
        "examples": 2500,
        "batch_size": 32,
        "epochs": 10,
    },
    "warm_start": {"dataset": "cifar10", "change": "warm_start", "tasks": 2, **_GROWING},
    "noisy_chunks": {"dataset": "cifar10", "change": "noisy_chunks", "tasks": 10, **_GROWING},
    "bit_flip": {
        "dataset": "bits",
        "change": "bit_flip",
        "tasks": 100,
        "network": "mlp",
        "widths": (5,),
        "loss": "mse",
        "outputs": 1,
        "examples": 10_000,
        "batch_size": 1,
        "epochs": 1,
    },
}
# Fields that a benchmark's preset fills in as soon as an experiment is made, with what they are where it says nothing.
PRESET_FIELDS = {"dataset": None, "examples": 1280, "test_examples": 0, "batch_size": 16, "subset": "per-seed"}
PRESET_FIELDS |= {"epochs": 200}

# What else the field calls them, in lower case without hyphens and underscores.
OTHER_NAMES: dict[str, dict[str, str]] = {
    "benchmark": {
        "permutedmnist": "mnist_permute",
        "pmnist": "mnist_permute",
        "inputpermutedmnist": "mnist_permute",
        "shuffledmnist": "mnist_shuffle",
        "labelshuffledmnist": "mnist_shuffle",
        "randomlabelmnist": "mnist_shuffle",
        "permutedfashionmnist": "fashion_permute",
        "shuffledfashionmnist": "fashion_shuffle",
        "permutedcifar10": "cifar_permute",
        "inputpermutedcifar10": "cifar_permute",
        "shuffledcifar10": "cifar_shuffle",
        "labelshuffledcifar10": "cifar_shuffle",
        "randomlabelcifar10": "cifar_shuffle",
        "permutedcifar": "cifar_permute",
        "shuffledcifar": "cifar_shuffle",
    },
    "dataset": {"fashion": "fashion_mnist", "fmnist": "fashion_mnist",
                "downsampledimagenet": "imagenet32"},
    "activation": {"linear": "identity", "lrelu": "leaky_relu", "concatenatedrelu": "crelu"},
    "init": {"glorot": "glorot_uniform", "xavier": "glorot_uniform", "xavieruniform": "glorot_uniform",
             "torch": "torch_default", "pytorch": "torch_default", "lecun": "lecun_normal",
             "he": "kaiming_uniform", "heuniform": "kaiming_uniform", "kaiming": "kaiming_uniform"},
    "method": {"l2regularization": "l2", "l2init": "regenerative", "regen": "regenerative",
               "regenerativeregularization": "regenerative", "wassersteinregularization": "wasserstein",
               "continualbackprop": "cbp", "continualbackpropagation": "cbp", "snp": "shrink_perturb",
               "shrinkandperturb": "shrink_perturb", "weightclipping": "clip", "selfnormalizedresets": "snr",
               "spectralregularization": "spectral", "parsevalregularization": "parseval",
               "normalizeandproject": "nap", "reset": "full_reset", "utilityperturbedgradientdescent": "upgd"},
    "network": {"perceptron": "mlp", "convolutional": "cnn"},
    "optimizer": {"momentumsgd": "sgd"},
}  # fmt: skip

# What other programs call a field, or a parameter of a command.
OTHER_FIELDS = {
    **dict.fromkeys(("lr", "step_size", "alpha", "learningrate"), "learning_rate"),
    **dict.fromkeys(("seed", "num_seeds", "n_seeds"), "seeds"),
    **dict.fromkeys(("num_tasks", "n_tasks"), "tasks"),
    **dict.fromkeys(("num_epochs", "n_epochs"), "epochs"),
    **dict.fromkeys(("bs", "minibatch_size"), "batch_size"),
    **dict.fromkeys(("reg", "regularizer", "regulariser", "algorithm"), "method"),
    **dict.fromkeys(("lambda", "lam"), "strength"),
    **dict.fromkeys(("problem", "env"), "benchmark"),
    **dict.fromkeys(("model", "arch"), "network"),
    **dict.fromkeys(("hidden", "hidden_sizes"), "widths"),
    **dict.fromkeys(("optim", "optimiser"), "optimizer"),
    **dict.fromkeys(("output", "output_dir", "dir"), "out"),
    **dict.fromkeys(("num_threads", "n_threads"), "threads"),
    "wd": "weight_decay",
    "gpu": "device",
    "metrics": "columns",
    "force": "yes",
}

# Settings that one engine alone has.
ENGINE_OF = {"tf32": "cuda", "compile": "vmap"}

# Hyperparameters of the optimizer that members of one batch may have each of their own.
MEMBER_HYPERPARAMETERS = ("beta1", "beta2", "epsilon", "momentum", "weight_decay")
# Fields of an experiment in whose place a list of members stands.
MEMBER_FIELDS = ("seeds", "seed_start", "learning_rate", "method", "strength", "options")


def is_path(dataset: str) -> bool:
    """Whether a dataset is a place of the user's and no name."""
    return "/" in dataset or os.sep in dataset or dataset.endswith(".npz")
