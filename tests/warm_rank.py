"""``python tests/warm_rank.py ADDRESS REQUEST ARGUMENT ...``: stands for a cold Python where a launcher starts one.

The process that listens at ADDRESS (tests/warm.py) forks one that does what the JSON of REQUEST asks for, with the
variables and the folder of this process, whose output and exit code are then those of the fork.
"""

import json
import os
import socket
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    address, request, *arguments = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as connection:
        files = [Path(folder, name) for name in ("stdout", "stderr")]
        place = {"files": [*map(str, files)], "cwd": os.getcwd(), "env": {**os.environ}}
        connection.connect(address)
        connection.sendall(json.dumps({**json.loads(request), "arguments": arguments, **place}).encode() + b"\n")
        with connection.makefile() as answers:
            answers.readline()  # its process id
            ended = answers.readline()
        for file, stream in zip(files, (sys.stdout, sys.stderr), strict=True):
            stream.write(file.read_text() if file.exists() else "")
    sys.exit(json.loads(ended)["code"] if ended else 1)
