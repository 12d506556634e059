#!/usr/bin/env bash
# dask-jobqueue 0.9.0: importing it changes Ctrl-C for the whole process, which then ends as if all were well.
#
# Behaviour: `import dask_jobqueue` puts its own handler of SIGINT in place of Python's, in whichever process imports it, also
# where no cluster is made. From then on Ctrl-C raises SystemExit, not KeyboardInterrupt: `except KeyboardInterrupt` no longer
# sees it, what it would have kept is lost, and the process ends with exit code 0, so that a script or a batch system takes
# an interrupted study for a finished one.
# Guess before: importing a client library leaves signals alone.
# Seen (dask-jobqueue 0.9.0, Python 3.11, Linux x86-64):
#   import json, then Ctrl-C: KeyboardInterrupt, exit code 130
#   import dask_jobqueue, then Ctrl-C: SystemExit, exit code 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dask-jobqueue==0.9.0
cat > "$folder/study.py" <<'PY'
import importlib
import os
import signal
import sys
import time

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with Ctrl-C ignored
importlib.import_module(sys.argv[1])
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)
except BaseException as ended:
    print(type(ended).__name__, end="", flush=True)
    if isinstance(ended, KeyboardInterrupt):
        sys.exit(130)
    raise
PY
for module in json dask_jobqueue; do
    code=0
    seen=$("$folder/venv/bin/python" "$folder/study.py" "$module") || code=$?
    echo "import $module, then Ctrl-C: $seen, exit code $code"
    case "$module $seen $code" in
        "json KeyboardInterrupt 130" | "dask_jobqueue SystemExit 0") ;;
        *) echo "the behaviour has changed"; exit 1 ;;
    esac
done
