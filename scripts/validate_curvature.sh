#!/usr/bin/env bash
# Certified stable ranks against exact ones on real networks: both data sets, four activations, the start and the end of
# seven tasks of 200 epochs, 16,000 updates. Writes docs/results/srank/, which
# docs/curvature.md reads. Takes an hour on two cores; done parts are kept. `fastplast` must be on the path.
set -euo pipefail
cd "$(dirname "$0")/.."
out=docs/results/srank
mkdir -p "$out"
for benchmark in mnist_shuffle cifar_shuffle; do
  for activation in relu leaky_relu tanh identity; do
    name=$benchmark-$activation
    [ -e "$out/$name.csv" ] && continue
    part=$(mktemp -d)
    fastplast srank validate --benchmark "$benchmark" --activation "$activation" --seeds 1 --tasks 7 --epochs 200 \
      --size 0 --out "$part"
    mv "$part"/*.csv "$out/$name.csv"
    rm -r "$part"
  done
done
