#!/usr/bin/env bash
# Sets up and runs everything that must hold: lint, types, tests. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup_env.sh
setup_env dev
setup_triton

ruff check .
ruff format --check .
pyright
python -m pytest "$@"
