#!/usr/bin/env bash
# Times everything in bench/ on this machine and writes bench/results/<machine>/: raw JSON, and a table made from it.
# Nothing is written for an operation whose result differs from the reference. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup_env.sh
setup_env dev,bench

machine="$(python scripts/bench_table.py --machine)"
mkdir -p "bench/results/$machine"
export FASTPLAST_BENCH_MACHINE="$machine"
python -m pytest bench -o python_files='bench_*.py' -o timeout=3600 --benchmark-only \
    --benchmark-json "bench/results/$machine/latest.json" "$@"
python scripts/bench_table.py "bench/results/$machine/latest.json" >"bench/results/$machine/README.md"
cat "bench/results/$machine/README.md"
