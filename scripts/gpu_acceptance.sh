#!/usr/bin/env bash
# Proves the GPU kernels on a GPU and times them: bash scripts/gpu_acceptance.sh [--dry-run] [DIRECTORY]
# Needs Python with torch 2.11 or newer for CUDA, Triton 3.6 or newer, numpy and pytest; no network, nothing is installed.
# Writes DIRECTORY (bench/results/<gpu>): environment.json, tests.txt, wasserstein.json, with compute-sanitizer on the PATH
# sanitizer.txt, with fastplast's dependencies experiment.json and experiment.md and, with pytest-benchmark, scale.json,
# scale.txt and README.md. PYTHON: another interpreter. --dry-run: the same steps on a CPU, small, kernels in Triton's
# interpreter, throughput and experiment by the engines of a CPU.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"
dry=""
if [ "${1:-}" = "--dry-run" ]; then
    dry="--dry-run"
    export TRITON_INTERPRET=1
    shift
fi

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/packages"
ln -s "$PWD/fastplast" "$scratch/packages/fastplast"
ln -s "$PWD/kernels" "$scratch/packages/fastplast_kernels"
export PYTHONPATH="$scratch/packages${PYTHONPATH:+:$PYTHONPATH}"
# Only what the tests need of the configuration: its plugins may not be installed.
printf '[pytest]\nmarkers =\n    gpu\n    slow\n' >"$scratch/pytest.ini"

say() { printf '\n== %s\n' "$*"; }

say "environment"
"$python" scripts/gpu_environment.py $dry "$scratch/environment.json"
results="${1:-bench/results/$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["directory"])' "$scratch/environment.json")}"
mkdir -p "$results"
cp "$scratch/environment.json" "$results/"
cat "$results/environment.json"

tests() { "$python" -m pytest -c "$scratch/pytest.ini" --rootdir . -p no:cacheprovider -q -m gpu tests/kernels/gpu "$@"; }

say "kernels equal their references, the cuda engine equals vmap"
if [ -n "$dry" ]; then
    tests -k "layers_of_different_lengths or strength_0" | tee "$results/tests.txt"
else
    tests | tee "$results/tests.txt"
fi

say "memory errors"
if [ -n "$dry" ]; then
    echo "would run: compute-sanitizer --error-exitcode 1 $python -m pytest tests/kernels/gpu -k full_size"
elif command -v compute-sanitizer >/dev/null; then
    export PYTORCH_NO_CUDA_MEMORY_CACHING=1
    compute-sanitizer --error-exitcode 1 "$python" -m pytest -c "$scratch/pytest.ini" --rootdir . -p no:cacheprovider -q \
        -m gpu tests/kernels/gpu -k full_size | tee "$results/sanitizer.txt"
    unset PYTORCH_NO_CUDA_MEMORY_CACHING
else
    echo "compute-sanitizer is not on the PATH: left out"
fi

say "times"
"$python" bench/gpu_wasserstein.py $dry "$results/wasserstein.json"
cat "$results/wasserstein.json"
throughput() {
    "$python" -m pytest -c "$scratch/pytest.ini" --rootdir . -p no:cacheprovider -q -rs -o python_files='bench_*.py' \
        bench/bench_scale.py --benchmark-only --benchmark-json "$results/scale.json" "$@" | tee "$results/scale.txt"
}

say "throughput, and the cost of stable ranks"
if ! "$python" -c 'import pytest_benchmark' 2>/dev/null; then
    echo "pytest-benchmark is not installed: left out"
elif [ -n "$dry" ]; then
    FASTPLAST_BENCH_MEMBERS=1 throughput -k "[cpu or [vmap- or stable"
else
    FASTPLAST_BENCH_DEVICE=cuda FASTPLAST_BENCH_MEMBERS=1,30,120,1000 throughput
fi
[ ! -f "$results/scale.json" ] || "$python" scripts/bench_table.py "$results/scale.json" >"$results/README.md"

say "an experiment, measured in turn and beside training"
if "$python" -c 'import pandas, pyarrow, safetensors, scipy' 2>/dev/null; then
    "$python" bench/gpu_experiment.py $dry "$results/experiment.json" | tee "$results/experiment.md"
else
    echo "needs pandas, pyarrow, safetensors and scipy: left out"
fi
say "written to $results"
