#!/usr/bin/env bash
# numba 0.68.1, `njit(cache=True)`: the cache on disk does not know the compile options of a function.
#
# Behaviour: a function compiled and cached with one set of options (`error_model`, `fastmath`, `boundscheck`) is taken
# from the cache by a later process that asks for other options; which one counts is whichever process came first. So
# two benchmarks of one kernel "with and without fastmath" time the same machine code, and 1 / 0 raises or gives inf
# by the history of the folder. Changing the options in another file than the kernel's does not bring a new kernel.
# Guess before: the options are part of the key of the cache, as the signature and the processor are.
# Seen (numba 0.68.1, NumPy 2.2.6, Python 3.11, Linux x86-64):
#   first process, error_model python: ZeroDivisionError, taken from the cache: 0
#   second process, error_model numpy: ZeroDivisionError, taken from the cache: 1
#   empty cache, error_model numpy: inf, taken from the cache: 0
#   then error_model python: inf, taken from the cache: 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.2.6 numba==0.68.1
cat > "$folder/ratio.py" <<'PY'
import sys

import numba


def ratio(a, b):
    return a / b


kernel = numba.njit(cache=True, error_model=sys.argv[1])(ratio)
try:
    found = str(kernel(1.0, 0.0))
except ZeroDivisionError:
    found = "ZeroDivisionError"
print(f"{found}, taken from the cache: {sum(kernel.stats.cache_hits.values())}")
PY
look() { NUMBA_CACHE_DIR="$folder/$1" "$folder/venv/bin/python" "$folder/ratio.py" "$2"; }
check() {
  echo "$1: $2"
  [ "$2" = "$3" ] || { echo "the behaviour has changed"; exit 1; }
}
check "first process, error_model python" "$(look a python)" "ZeroDivisionError, taken from the cache: 0"
check "second process, error_model numpy" "$(look a numpy)" "ZeroDivisionError, taken from the cache: 1"
check "empty cache, error_model numpy" "$(look b numpy)" "inf, taken from the cache: 0"
check "then error_model python" "$(look b python)" "inf, taken from the cache: 1"
