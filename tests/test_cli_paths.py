"""Paths that no disk can have, at every command that takes one: one line, exit code 2, no file left."""

import pytest

from filtersub.cli import main

LONG = "x" * 300
COMMANDS = {
    "decompose": ("decompose", "{path}.safetensors"),
    "decompose into": (
        "decompose",
        "efficientnet_lite0",
        "--no-pretrained",
        "--layers",
        "conv_stem",
        "--out",
        "{path}",
    ),
    "decompose by a file": ("decompose", "efficientnet_lite0", "--no-pretrained", "--config", "{path}"),
    "count": ("count", "{path}.safetensors"),
    "tune into": ("tune", "test_resnet", "--no-pretrained", "--out", "{path}"),
    "tune by atoms": ("tune", "test_resnet", "--no-pretrained", "--decomposition", "{path}", "--out", "out"),
    "tune weights": ("tune", "test_resnet", "--weights", "{path}.pth", "--out", "out"),
    "tune data": ("tune", "test_resnet", "--no-pretrained", "--data", "folder:{path}", "--out", "out"),
    "ablate": ("ablate", "{path}.yaml", "--out", "out"),
    "ablate into": ("ablate", "quickstart", "--dry-run", "--out", "{path}"),
    "report": ("report", "{path}"),
    "check-notebook": ("check-notebook", "{path}.ipynb"),
    "new": ("new", "{path}"),
    "data check folder": ("data", "check", "folder:{path}"),
    "data check csv": ("data", "check", "csv:{path}.csv"),
    "data check hf": ("data", "check", "hf:{path}"),
    "distance": ("distance", "{path}", "images"),
    "generate": ("generate", "{path}", "--prompts", "{path}", "--out", "out"),
}


@pytest.mark.parametrize("kind", ["too long", "links in a circle"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_path_that_cannot_be_is_one_line(command, kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("circle", "circle.safetensors", "circle.pth", "circle.yaml", "circle.ipynb", "circle.csv"):
        (tmp_path / name).symlink_to(name)
    before = set(tmp_path.rglob("*"))
    path = LONG if kind == "too long" else "circle"
    monkeypatch.setattr("sys.argv", ["filtersub", *(word.format(path=path) for word in COMMANDS[command])])
    with pytest.raises(SystemExit) as left:
        main()
    out, err = capsys.readouterr()
    assert left.value.code in ((1, 2) if command.startswith(("data check", "check-notebook")) else (2,))
    assert "Traceback" not in err
    assert path[:10] in (out if left.value.code == 1 else err.splitlines()[-1])
    assert not [path for path in tmp_path.rglob("*") if path not in before and path.is_file()]
