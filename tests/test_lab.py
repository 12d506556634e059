"""Notebooks by hand, in a real JupyterLab and browser: open, run all; in the explorer, a slider moves the figure."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import nbformat
import pytest

from filtersub.records import read_record

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
TOKEN = "token-of-this-test"
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # every cell is in the page, seen or not
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
}
ALL_RAN = """() => {
  const prompts = [...document.querySelectorAll(".jp-NotebookPanel .jp-CodeCell .jp-InputPrompt")];
  return prompts.length > 0 && prompts.every((prompt) => /^\\[\\d+\\]:?$/.test(prompt.textContent.trim()));
}"""
#: small settings by notebook; what it writes and shows at the end
BY_HAND = {
    "01_decomposition": {"atoms_grid": [3], "layers": r"blocks\.1"},
    "02_tuning": {"method": "linear", "epochs": 1, "n_train": 40, "image_size": 32},
}
pytestmark = [pytest.mark.slow, pytest.mark.notebook]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address of a folder in a JupyterLab of its own, which knows nothing of the user's settings."""
    pytest.importorskip("jupyterlab", reason="needs JupyterLab (pip install filtersub[lab])")
    pytest.importorskip("ipywidgets", reason="needs ipywidgets (pip install filtersub[lab])")
    tmp_path = tmp_path_factory.mktemp("lab")
    work, settings = tmp_path / "notebooks", tmp_path / "settings"
    work.mkdir()
    for plugin, chosen in SETTINGS.items():
        path = settings / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(chosen))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    places = {name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    places |= {"IPYTHONDIR": str(tmp_path / "ipython"), "JUPYTER_PREFER_ENV_PATH": "1"}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
    command += [f"--port={address.rpartition(':')[2]}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={work}"]
    command += [f"--IdentityProvider.token={TOKEN}", f"--LabApp.user_settings_dir={settings}"]
    command += [f"--LabApp.workspaces_dir={tmp_path / 'workspaces'}"]
    with (tmp_path / "lab.log").open("wb") as log:
        server = subprocess.Popen(command, env={**os.environ, **places}, stdout=log, stderr=log, cwd=work)
        try:
            _wait_for(f"{address}/api?token={TOKEN}", server, tmp_path / "lab.log")
            yield address, work
        finally:
            server.terminate()  # ends its kernel too
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


@pytest.fixture(scope="module")
def window(browser):
    """A window of Chromium, which fetches JupyterLab's own files once for all its pages."""
    with closing(browser.new_context(viewport={"width": 1400, "height": 1100})) as opened:
        yield opened


@pytest.fixture
def page(window):
    with closing(window.new_page()) as opened:
        yield opened


def _wait_for(address, server, log):
    until = time.monotonic() + 120
    while time.monotonic() < until and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"JupyterLab ended or does not answer:\n{log.read_text()[-2000:]}")


def run_all(page, address, name):
    """Open a notebook, run every cell from the menu, and see that each ran without an error or a warning."""
    page.set_default_timeout(60_000)
    workspace = name.partition(".")[0]  # of its own, or the notebooks of other tests are opened again
    page.goto(f"{address}/lab/workspaces/{workspace}/tree/{name}?token={TOKEN}")
    page.wait_for_selector(".jp-NotebookPanel .jp-CodeCell")
    # run before the session has its kernel, no cell is run at all: JupyterLab asks for a kernel instead
    page.get_by_text("Python 3 (ipykernel) | Idle").first.wait_for()
    page.locator(".lm-MenuBar-item", has_text="Run").click()
    page.locator(".lm-Menu-item", has_text="Run All Cells").first.click()
    page.wait_for_function(ALL_RAN, timeout=180_000)
    assert page.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0


@pytest.mark.parametrize("name", BY_HAND)
def test_a_notebook_runs_from_top_to_bottom_by_hand(lab, page, tmp_path, name):
    address, work = lab
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    (cell,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    chosen = {**BY_HAND[name], "out_dir": str(tmp_path / "out")}
    cell.source += "".join(f"\n{key} = {value!r}" for key, value in chosen.items())  # as a person would edit it
    nbformat.write(notebook, work / f"{name}.ipynb")
    run_all(page, address, f"{name}.ipynb")
    assert page.locator(".jp-OutputArea svg").count()
    assert page.locator(".jp-OutputArea").get_by_text("What would change it").count()
    record = read_record(tmp_path / "out")
    assert record.parameters.items() >= {k: v for k, v in BY_HAND[name].items() if k != "atoms_grid"}.items()


SLOW = """
import time
from filtersub.explore import Explorer

quick = Explorer.look


def slow(*args, every_kernel=False, **options):
    time.sleep(300 * every_kernel)
    return quick(*args, every_kernel=every_kernel, **options)


Explorer.look = slow
"""


def test_the_explorer_by_hand(lab, page, tmp_path):
    """A slider moves the figure, a click shows a kernel's codes, a second setting stands beside the first, and an
    interrupt of the kernel leaves the last figure."""
    shots = Path(os.environ.get("FILTERSUB_SCREENSHOTS") or tmp_path)  # a folder that a person names keeps them
    shots.mkdir(parents=True, exist_ok=True)
    address, work = lab
    notebook = nbformat.read(NOTEBOOKS / "00_explore.ipynb", as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(SLOW))  # every kernel now takes long enough to be interrupted
    nbformat.write(notebook, work / "00_explore.ipynb")
    run_all(page, address, "00_explore.ipynb")
    assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").all_inner_texts() == []
    assert page.locator(".jp-OutputArea").get_by_text("Of these looks the one with").count()  # the last cell's answer
    slider = page.locator(".widget-slider", has_text="Atoms m").first
    figures = page.locator(".widget-html figure")
    figure, words = figures.nth(0).locator("svg"), figures.nth(0).locator("figcaption")
    codes = figures.nth(1).locator("figcaption")
    slider.scroll_into_view_if_needed()
    before = figure.inner_html()
    assert slider.locator(".widget-readout").inner_text() == "9"
    assert "9 atoms rebuild" in words.inner_text()
    page.screenshot(path=shots / "lab-before.png")
    handle = slider.locator(".noUi-handle")
    handle.focus()
    handle.press("ArrowRight")
    words.get_by_text("10 atoms rebuild").wait_for()
    assert slider.locator(".widget-readout").inner_text() == "10"
    assert figure.inner_html() != before
    page.screenshot(path=shots / "lab-after.png")

    tile = page.locator(".widget-toggle-button").nth(5)
    assert tile.evaluate("node => getComputedStyle(node).backgroundImage").startswith('url("data:image/png')
    assert tile.bounding_box()["width"] <= 60
    name = tile.get_attribute("title")
    assert name.startswith("output channel")
    assert f"Kernel of {name}:" not in codes.inner_text()
    tile.click()
    codes.get_by_text(f"Kernel of {name}:").wait_for()
    assert "of 10 atoms" in codes.inner_text()

    page.get_by_role("button", name="Compare with another setting").click()
    figures.nth(3).wait_for()
    second = page.locator(".widget-dropdown", has_text="Solver").nth(1).locator("select")
    second.select_option("omp")
    figures.nth(2).locator("figcaption").get_by_text("Solver omp").wait_for()
    table = page.locator(".widget-html table", has_text="nonzero coefficients")
    assert table.locator("td", has_text="lasso").count() == table.locator("td", has_text="omp").count() == 1
    left, right = (figures.nth(number).bounding_box() for number in (0, 2))
    assert left["y"] == right["y"]  # side by side, not below each other
    assert left["x"] + left["width"] <= right["x"]
    table.scroll_into_view_if_needed()
    page.screenshot(path=shots / "lab-compared.png")

    before = [figures.nth(number).inner_html() for number in range(4)]
    waiting = page.get_by_text("is being decomposed")
    page.get_by_role("button", name="Decompose every kernel").first.click()
    waiting.wait_for()
    page.locator(".lm-MenuBar-item", has_text="Kernel").click()
    page.locator(".lm-Menu-item", has_text="Interrupt Kernel").first.click()
    waiting.wait_for(state="detached")
    assert [figures.nth(number).inner_html() for number in range(4)] == before
    handle.focus()
    handle.press("ArrowRight")  # and the next move works
    words.get_by_text("11 atoms rebuild").wait_for()
    assert (shots / "lab-before.png").read_bytes() != (shots / "lab-after.png").read_bytes()
