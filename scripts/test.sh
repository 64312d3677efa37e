#!/usr/bin/env bash
# Sets up and runs everything that must hold: lint, types, tests. Arguments go to pytest; -n sets how many processes.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup_env.sh
setup_env dev
setup_triton

ruff check .
ruff format --check .
pyright
workers="$(python -c 'from fastplast.engines import available_cores; print(min(4, available_cores()))')" # 2 GiB each
python -m pytest -n "$workers" --dist worksteal "$@"
