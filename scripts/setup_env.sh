# Sourced by demo.sh, test.sh and bench.sh: makes .venv with the locked dependencies and fastplast in it, once.
# FASTPLAST_VENV: another place for the environment. PYTHON: another interpreter, 3.10 or newer.

setup_env() { # setup_env [EXTRA]
    local root venv python stamp extra="${1:-}"
    root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
    venv="${FASTPLAST_VENV:-$root/.venv}"
    python="${PYTHON:-python3}"
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
        echo "fastplast needs Python 3.10 or newer: got $("$python" --version 2>&1 || true). Set PYTHON to one." >&2
        return 1
    fi
    stamp="$(cat "$root/requirements.lock" "$root/pyproject.toml" "$root/setup.py" | cksum) $extra $root"
    if [ ! -f "$venv/.fastplast" ] || [ "$(cat "$venv/.fastplast")" != "$stamp" ]; then
        echo "Installing into $venv"
        if [ -e "$venv" ] && [ ! -f "$venv/pyvenv.cfg" ]; then
            echo "FASTPLAST_VENV must be a new directory or a virtual environment: got $venv." >&2
            return 1
        fi
        "$python" -m venv --clear "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c "$root/requirements.lock" \
            torch -e "$root${extra:+[$extra]}"
        echo "$stamp" >"$venv/.fastplast"
    fi
    PATH="$venv/bin:$PATH"
    export PATH
}

# The newest version of Triton that GPU kernels have budgets for, and others whose table was written from other kernels, each
# in a directory of its own: for proving the kernels where there is no GPU. Apart from the environment, because PyTorch for
# GPUs brings the one version that it was built for.
setup_triton() {
    local root place table version newest sources
    [ "$(uname -s)" = Linux ] || return 0
    root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
    sources="$(python "$root/scripts/kernel_budgets.py" --sources)"
    newest="$(printf '%s\n' "$root"/tests/kernels/budgets/triton-*.json | sort -V | tail -1)"
    for table in "$root"/tests/kernels/budgets/triton-*.json; do
        if [ "$table" != "$newest" ] && [ "$(cat "${table%.json}.sources")" = "$sources" ]; then continue; fi
        version="${table##*/triton-}"
        version="${version%.json}"
        place="$(python -c 'import sys; print(sys.prefix)')/triton/$version"
        if [ ! -d "$place/triton" ]; then
            echo "Installing Triton $version into $place"
            rm -rf "$place"
            python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile \
                --target "$place" "triton==$version"
        fi
    done
}
