#!/usr/bin/env bash
# Builds the documentation into site/; a warning is an error. `bash scripts/docs.sh serve` shows it while it is written.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup_env.sh
setup_env dev

export NO_MKDOCS_2_WARNING=1 # an advertisement of the theme's authors
if [ "${1:-}" = serve ]; then
    exec mkdocs serve
fi
mkdocs build --strict --quiet
echo "$PWD/site/index.html"
