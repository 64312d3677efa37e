#!/usr/bin/env bash
# Makes docs/figures/mnist_collapse.*: 8 ReLU networks on 7 tasks of label-shuffled MNIST at the paper's 16,000 updates per
# task. Needs all of MNIST: fastplast data fetch mnist. Measurements are kept beside the figure.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup_env.sh
setup_env

out="${1:-runs/mnist_collapse}"
fastplast train --benchmark mnist_shuffle --seeds 8 --tasks 7 --out "$out"
fastplast plot "$out" --out docs/figures/mnist_collapse.png
fastplast plot "$out" --out docs/figures/mnist_collapse.svg
fastplast export "$out" --csv --out docs/figures/mnist_collapse.csv
