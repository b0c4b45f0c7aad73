#!/bin/sh
# Makes or updates the virtual environment of this checkout from the locks: make_venv.sh [FOLDER]
# Needs only Python >= 3.11 with venv; everything else is pinned by hash in requirements/.
set -eu
cd "$(dirname "$0")/.."
venv=${1:-.venv}

fits() { # PYTHON CONDITION: starts, has venv, and its version meets the condition
    "$1" -c "import ensurepip, sys, venv; sys.exit(not ($2))" >/dev/null 2>&1
}

find_python() { # the one the user points at, else a version all packages have wheels for, else any that is new enough
    if [ -n "${PYTHON:-}" ]; then
        fits "$PYTHON" "sys.version_info >= (3, 11)" && echo "$PYTHON" && return 0
        echo "mlstead: PYTHON=$PYTHON is not a Python 3.11 or newer with venv" >&2
        return 1
    fi
    for condition in "(3, 11) <= sys.version_info < (3, 14)" "sys.version_info >= (3, 11)"; do
        for python in python3 python3.13 python3.12 python3.11 python3.14; do
            fits "$python" "$condition" && echo "$python" && return 0
        done
    done
    echo "mlstead: no Python 3.11 or newer with venv found (Debian, Ubuntu: apt install python3 python3-venv; or set PYTHON=/path/to/python3)" >&2
    return 1
}

if ! "$venv/bin/python" -c "" >/dev/null 2>&1; then
    python=$(find_python)
    echo "making $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
fi
# uv is kept by version outside the checkout, so that a second checkout needs no network for it.
wanted=$(sed -n 's/^uv==\([^ ;\\]*\).*/\1/p' requirements/bootstrap.txt)
tools=${XDG_CACHE_HOME:-$HOME/.cache}/mlstead/uv-$wanted
if [ "$("$tools/bin/uv" --version 2>/dev/null | cut -d' ' -f2)" != "$wanted" ]; then
    rm -rf "$tools.new.$$"
    "$venv/bin/python" -m venv --clear "$tools.new.$$"
    "$tools.new.$$/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
    rm -rf "$tools"
    mv "$tools.new.$$" "$tools"
fi
uv=$tools/bin/uv
# An environment of the caller's own must not lead uv elsewhere.
unset VIRTUAL_ENV CONDA_PREFIX || true
python=$venv/bin/python

install() { # UV ARGUMENTS: from the index; where that cannot be reached, from uv's own cache
    "$uv" pip "$@" 2>"$venv/.uv-errors" && return 0
    "$uv" pip "$@" --offline && echo "installed from the cache: the index was not reached" && return 0
    cat "$venv/.uv-errors" >&2
    return 1
}
install sync --quiet --python "$python" --require-hashes --compile-bytecode requirements/dev.txt
install install --quiet --python "$python" --no-deps --no-build-isolation --editable .
