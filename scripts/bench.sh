#!/usr/bin/env bash
# Times everything in bench/ on this machine and writes bench/results/<machine>/: raw JSON, and tables made from it.
# Nothing is written for an operation whose result differs from the reference. Arguments: only these files of bench/.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup_env.sh
setup_env dev,bench

machine="$(python scripts/bench_table.py --machine)"
mkdir -p "bench/results/$machine"
export FASTPLAST_BENCH_MACHINE="$machine"
for file in "${@:-bench/bench_*.py}"; do
    for path in $file; do # unquoted: the default is a pattern
        name="$(basename "$path" .py)"
        python -m pytest "$path" -o python_files='bench_*.py' -o timeout=3600 --benchmark-only \
            --benchmark-json "bench/results/$machine/${name#bench_}.json"
    done
done
python scripts/bench_table.py "bench/results/$machine"/*.json >"bench/results/$machine/README.md"
cat "bench/results/$machine/README.md"
