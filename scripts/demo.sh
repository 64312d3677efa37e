#!/usr/bin/env bash
# Sets up, trains a small real experiment on the embedded data, and ends with the path of a figure.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup_env.sh
setup_env

export FASTPLAST_DATA="$PWD/.venv/no-datasets" # so that the demo is the same everywhere: the images in the package
out="${1:-runs/demo-$(date +%Y%m%d-%H%M%S)}"
fastplast train --benchmark mnist_shuffle --seeds 6 --tasks 8 --out "$out"
fastplast plot "$out" --formats png
