"""Trains small members and prints hashes of their states: run in a process whose Numba compiles for another CPU."""

from __future__ import annotations

import hashlib

from conv_case import make_conv_case
from mlp_case import make_case

CASES = {
    "perceptron": lambda: make_case((130, 37, 21, 5), pull="mixed", members=4, ragged=True, norm=True, dropout=0.2),
    "crelu": lambda: make_case((37, 21, 18, 5), "crelu", optimizer="sgd", batch=37),
    "convolutions": lambda: make_conv_case((3, 12, 13), ((5, 5, 1, 0), (20, 3, 2, 1)), pool=(2, 1), activation="tanh"),
}


def main() -> None:
    """Prints a hash of each case's state and sums."""
    for name, make in CASES.items():
        case = make()
        if name == "perceptron":  # has zeros to leave out
            case.task.shift.zero_()
            case.task.images[case.task.images < 150] = 0
        sums = case.train()
        tensors = (case.params, case.m, case.v, sums.update_l1, sums.update_l2)
        print(name, hashlib.sha256(b"".join(x.numpy().tobytes() for x in tensors)).hexdigest())


if __name__ == "__main__":
    main()
