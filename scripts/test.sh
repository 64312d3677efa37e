#!/usr/bin/env bash
# Sets up and runs everything that must hold: lint, types, tests. bash scripts/test.sh [--quick] [--durations-file] [PYTEST ARGUMENTS]
# --quick: the core of each folder of tests, as tests/quick.txt lists it, in a few minutes. --durations-file: writes the
# slowest tests to tests/durations.txt. Other arguments go to pytest; -n sets how many processes.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup_env.sh
setup_env dev

tests=()
durations=""
while [ $# -gt 0 ]; do
    case "$1" in
        --quick) mapfile -t tests < <(grep -v '^#' tests/quick.txt) ;;
        --durations-file) durations="$(mktemp)" ;;
        *) break ;;
    esac
    shift
done
[ ${#tests[@]} -gt 0 ] || setup_triton

ruff check .
ruff format --check .
# CPU kernels are compiled by one process each before many would compile the same ones, and types checked beside them.
nice pyright &
typed=$!
compiled=()
kernels=("tests/engines/test_engine_cpu.py each_of_five and relu-adam and not leaky_relu")
# Those that watch units are others, which the core does without.
[ ${#tests[@]} -gt 0 ] || kernels+=("tests/methods/test_units_on_cpu.py redo-mlp-relu-16")
for kernel in "${kernels[@]}"; do
    python -m pytest -q -p no:cacheprovider "${kernel%% *}" -k "${kernel#* }" >/dev/null &
    compiled+=($!)
done
for process in "${compiled[@]}"; do
    wait "$process" || echo "CPU kernels could not be compiled: the tests say why." >&2
done
wait "$typed"
# One process more than cores, since some tests wait for processes of their own; each takes 2 GiB.
workers="$(python -c 'from fastplast_kernels.cores import available_cores; print(min(4, available_cores() + 1))')"
python -m pytest -n "$workers" --dist worksteal ${durations:+--junitxml "$durations"} "${tests[@]}" "$@"
[ -z "$durations" ] || python scripts/durations.py "$durations" tests/durations.txt
