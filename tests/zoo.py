"""Every architecture family, really run: decomposed, rebuilt, tuned, saved, loaded, merged, fused, exported, diagnosed.

    .venv/bin/python tests/zoo.py                       # make zoo; an hour, goes on where it was interrupted
    .venv/bin/python tests/zoo.py --only repvgg UNet2D --again
    .venv/bin/python tests/zoo.py --page                # the page alone, from the verdicts that are there

Each operation is right, is refused by filtersub in one line, or fails on the untuned network too. Writes docs/zoo.md;
exit code 1 where anything is wrong. The architectures are in zoo_models.py, what must hold in zoo_steps.py, and tools
that meet a tuned network in zoo_crossings.py.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from zoo_crossings import CROSSINGS, checked
from zoo_models import ZOO, Entry
from zoo_steps import OPERATIONS, loads_again, run, verdict

from filtersub.files import write_text

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "zoo.md"
_LIBRARIES = ("torch", "timm", "torchvision", "transformers", "diffusers", "peft", "onnx", "onnxruntime", "accelerate",
              "lightning", "opacus", "torchao")  # fmt: skip
_LATE = ("trace", "export", "ONNX")  # most of the time: after everything else, small networks first
_EARLY = tuple(name for name in OPERATIONS if name not in _LATE)
_INTRODUCTION = """# The zoo

Written by `make zoo` ([tests/zoo.py](../tests/zoo.py)) with {versions}.
Each architecture has random weights and small inputs.

**{right} of {all} operations on {architectures} architectures are right**, {refused} are refused by filtersub in one
line (or, of what a library folds, are right after merging alone), {library} fail on the untuned network too.

| column | ✓ where |
|---|---|
| decompose | the error of every layer is that of the weight it runs with |
| rebuild | as many atoms as a kernel has entries give the network's outputs; one atom does not |
| diagnose | `output_table` says the error that a hook measures |
| setting 1, setting 3 | see below |
| merge | plain layers, the same outputs; the copied model is as it was |
| fuse | what the library folds (`reparameterize_model`, `fuse_qkv_projections`) before and after merging |
| trace, export, ONNX | `torch.jit.trace` saved and loaded, `torch.export`, onnxruntime: the tuned network's outputs |
| load | the saved adapters, in a new process, on the network made anew |

A setting is right where the adapter starts unchanged (within 1e-5), five steps lower the loss and move every atom that
runs and nothing frozen, and the outputs are those of `F + alpha x dD` written out in plain layers, with coefficients
decomposed anew. An empty cell was not run: nothing to fuse, no layer to tune, or `make zoo` had too few minutes.
"""


def main() -> int:
    options = _options()
    options.records.mkdir(parents=True, exist_ok=True)
    if options.load:
        return _load_all(options.records)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if not options.page:
        chosen = [e for e in ZOO if not options.only or any(word in e.name for word in options.only)]
        for number, entry in enumerate(chosen):
            _record(entry, options, _EARLY, f"{number + 1}/{len(chosen)}")
        subprocess.run([sys.executable, __file__, "--load", "--records", str(options.records)], check=True)
        crossings = {
            f"{tool}: {what}": verdict(lambda call=call, refused=refused: checked(call, refused))
            for tool, what, call, refused in CROSSINGS
        }
        write_text(options.records / "crossings.json", json.dumps(crossings))
        ends = time.monotonic() + 60 * options.minutes
        for number, entry in enumerate(sorted(chosen, key=lambda each: _layers(each, options.records))):
            if time.monotonic() < ends:
                _record(entry, options, ("setting 3", *_LATE), f"export {number + 1}/{len(chosen)}")
    verdicts = _verdicts(options.records)
    write_text(PAGE, page(verdicts, json.loads((options.records / "crossings.json").read_text())))
    wrong = [
        f"{name}, {operation}: {v}" for name, each in verdicts.items() for operation, v in each.items() if "WRONG" in v
    ]
    print("\n".join(wrong) or f"{PAGE}: nothing is wrong")
    return 1 if wrong else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], help="parts of names; the others are left out")
    parser.add_argument("--again", action="store_true", help="run what has a verdict already, too")
    parser.add_argument("--records", type=Path, default=ROOT / "reports" / "zoo", help="folder of the verdicts")
    parser.add_argument("--minutes", type=float, default=600.0, help="for tracing and export; a second call goes on")
    parser.add_argument("--page", action="store_true", help="write the page alone")
    parser.add_argument("--load", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _folder(entry: Entry, records: Path) -> Path:
    return records / entry.name.replace(":", "-").replace(" ", "-")


def _layers(entry: Entry, records: Path) -> int:
    """Tuned or decomposed layers, which is what exporting takes long for."""
    return int(json.loads((_folder(entry, records) / "load.json").read_text())["layers"])


def _record(entry: Entry, options: argparse.Namespace, operations: tuple[str, ...], where: str) -> None:
    folder = _folder(entry, options.records)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{operations[-1]}.json"
    if path.exists() and not options.again:
        return
    found = run(entry, folder, operations)
    write_text(path, json.dumps(found))
    wrong = "; ".join(f"{name} {what}" for name, what in found.items() if what not in ("right", found["layers"]))
    print(f"{where} {entry.name}: {wrong or 'right'}", flush=True)


def _load_all(records: Path) -> int:
    """In a process of its own: loads what the others saved."""
    for entry in ZOO:
        path = _folder(entry, records) / "load.json"
        if path.exists():
            found = json.loads(path.read_text())
            if found.get("load") == "right":
                found["load"] = verdict(lambda entry=entry: loads_again(entry, _folder(entry, records)))
                write_text(path, json.dumps(found))
    return 0


def _verdicts(records: Path) -> dict[str, dict[str, str]]:
    found = {}
    for entry in ZOO:
        early, late = (_folder(entry, records) / f"{name}.json" for name in ("load", _LATE[-1]))
        if early.exists():
            later = json.loads(late.read_text()) if late.exists() else {}
            found[entry.name] = {**later, **json.loads(early.read_text())}
    return found


def page(verdicts: dict[str, dict[str, str]], crossings: dict[str, str]) -> str:
    """The page of the docs, from the verdicts of each architecture and crossing."""
    notes: dict[str, int] = {}
    cells = [v for each in verdicts.values() for name, v in each.items() if name != "layers"]
    counts = {word: sum(v.startswith(word) for v in cells) for word in ("right", "refused", "library")}
    versions = ", ".join(f"{name} {_version(name)}" for name in _LIBRARIES if _version(name))
    lines = [_INTRODUCTION.format(versions=versions, all=len(cells), architectures=len(verdicts), **counts)]
    for family in dict.fromkeys(entry.family for entry in ZOO):
        lines += [f"\n## {family.capitalize()}\n", f"| architecture | layers | {' | '.join(OPERATIONS)} |"]
        lines.append("|---" * (2 + len(OPERATIONS)) + "|")
        for entry in ZOO:
            if entry.family == family and entry.name in verdicts:
                own = verdicts[entry.name]
                row = [entry.name, own["layers"], *(_cell(own.get(name), notes) for name in OPERATIONS)]
                lines.append(f"| {' | '.join(row)} |")
    lines += ["\n## Crossings with other tools\n", "| tool and situation | |", "|---|---|"]
    lines += [f"| {name} | {_cell(what, notes)} |" for name, what in crossings.items()]
    lines += ["\n## Notes\n", *(f"{number}. {text}" for text, number in notes.items())]
    return "\n".join(lines) + "\n"


def _cell(what: str | None, notes: dict[str, int]) -> str:
    if what is None:
        return ""
    if what == "right":
        return "✓"
    word, _, text = what.partition(": ")
    return f"{word} {notes.setdefault(text or what, len(notes) + 1)}"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
