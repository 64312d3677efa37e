#!/usr/bin/env bash
# Runs the tests that depend on floats as on another CPU, where libraries add in another order: no test may notice.
# Usage: scripts/test_other_cpu.sh sse|avx2 [arguments of pytest].
set -euo pipefail
cd "$(dirname "$0")/.."
cpu="${1:?sse or avx2}"
shift
source scripts/setup_env.sh
setup_env dev

case "$cpu" in
sse) export OPENBLAS_CORETYPE=Prescott MKL_CBWR=COMPATIBLE ATEN_CPU_CAPABILITY=default DNNL_MAX_CPU_ISA=SSE41 \
    NUMBA_CPU_NAME=generic NUMBA_CPU_FEATURES= ;;
avx2) export OPENBLAS_CORETYPE=Haswell MKL_CBWR=AVX2 ATEN_CPU_CAPABILITY=avx2 DNNL_MAX_CPU_ISA=AVX2 \
    NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES=+avx2,+fma,+sse4.2 ;;
*) echo "CPU must be sse or avx2: got $cpu." >&2 && exit 2 ;;
esac
export NUMBA_CACHE_DIR="${XDG_CACHE_HOME:-$HOME/.cache}/fastplast-$cpu" # machine code of this CPU by itself
tests=(curvature engines kernels measuring methods networks problems stats training)
[[ $# -gt 0 ]] || set -- "${tests[@]/#/tests/}"
python -m pytest "$@"
