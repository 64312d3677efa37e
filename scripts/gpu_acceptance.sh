#!/usr/bin/env bash
# Proves the GPU kernels on a GPU and times them:
#   bash scripts/gpu_acceptance.sh [--quick] [--full] [--profile] [--dry-run] [--only STEP,...] [DIRECTORY]
# --quick: times, ten tests, in 3 minutes. --full: all tests, then an experiment, in 4. --profile: Nsight Compute,
# compute-sanitizer and peers, in 4. Without any of them: all, in that order. --dry-run: the same on a CPU, small.
# Needs Python with torch 2.11 or newer for CUDA, Triton 3.6 or newer, numpy and pytest; no network, nothing is installed.
# A step that fails stops no other; the exit status says whether any did. DIRECTORY ($OUT, or bench/results/<gpu>) gets
# MODE.json, what every step did and measured, and MODE.tar.gz, all that it wrote. PYTHON: another interpreter.
cd "$(dirname "$0")/.." || exit
exec "${PYTHON:-python3}" scripts/gpu_acceptance.py "$@"
