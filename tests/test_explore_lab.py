"""The exploration notebook in a real JupyterLab and browser: open, run all, move a slider, see the figure change."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from browser import chromium

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "00_explore.ipynb"
TOKEN = "token-of-this-test"
MINUTES = 60_000  # milliseconds


@pytest.fixture
def lab(tmp_path):
    """Address of a JupyterLab of its own, which knows nothing of the user's settings."""
    pytest.importorskip("jupyterlab", reason="needs JupyterLab (pip install filtersub[lab])")
    pytest.importorskip("ipywidgets", reason="needs ipywidgets (pip install filtersub[lab])")
    work = tmp_path / "work"
    work.mkdir()
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:  # one layer of a small network, so that the test waits for the browser alone
        cell.source = cell.source.replace("layers: str | None = None", 'layers: str | None = r"blocks\\.[0-3]\\."')
        cell.source = cell.source.replace('out_dir = "../reports/scratch/explore"', 'out_dir = "looks"')
    nbformat.write(notebook, work / "00_explore.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {name: str(tmp_path / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    sockets = {"JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"), "JUPYTER_PREFER_ENV_PATH": "1"}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root"]
    command += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={work}", "--ServerApp.port_retries=0"]
    command += [f"--LabApp.workspaces_dir={tmp_path / 'spaces'}", f"--LabApp.user_settings_dir={tmp_path / 'settings'}"]
    log = (tmp_path / "lab.log").open("wb")
    server = subprocess.Popen(command, env={**os.environ, **places, **sockets}, stdout=log, stderr=log, cwd=work)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api?token={TOKEN}", server, tmp_path / "lab.log")
        yield f"http://127.0.0.1:{port}/lab/tree/00_explore.ipynb?token={TOKEN}"
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
        log.close()


def _wait_for(address, server, log):
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if server.poll() is not None:
            pytest.fail(f"JupyterLab ended:\n{log.read_text()[-2000:]}")
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"JupyterLab does not answer:\n{log.read_text()[-2000:]}")


@pytest.mark.slow
def test_a_slider_moves_the_figure(lab, tmp_path):
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 1100})
        page.set_default_timeout(3 * MINUTES)
        page.goto(lab)
        page.wait_for_selector(".jp-NotebookPanel .jp-CodeCell")
        page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", state="attached")
        page.click(".lm-MenuBar-itemLabel:text-is('Run')")
        page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")
        figure = page.locator(".jp-OutputArea-output .widget-html svg")
        figure.wait_for()
        page.wait_for_selector("text=Of these looks at")  # the last cell has run
        before, words = figure.inner_html(), page.locator(".widget-html figcaption")
        assert "9 atoms rebuild" in words.inner_text()
        figure.scroll_into_view_if_needed()
        page.screenshot(path=tmp_path / "before.png")
        slider = page.locator(".widget-slider", has_text="Atoms m").locator("[role=slider]")
        slider.focus()
        slider.press("ArrowRight")
        page.wait_for_function("document.querySelector('.widget-html figcaption').textContent.includes(': 10 atoms')")
        after = page.locator(".jp-OutputArea-output .widget-html svg").inner_html()
        page.screenshot(path=tmp_path / "after.png")
        assert after != before
        assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    shots = [(tmp_path / name).read_bytes() for name in ("before.png", "after.png")]
    assert shots[0] != shots[1]
    keep = os.environ.get("FILTERSUB_SCREENSHOTS")  # a folder that a person names, to look at them
    if keep:
        for name in ("before.png", "after.png"):
            shutil.copy(tmp_path / name, Path(keep) / f"lab-{name}")
