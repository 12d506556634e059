"""docs/results.md quotes the committed reports; what it quotes stands there."""

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
PARTS = re.split(r"^## ", PAGE.read_text(), flags=re.M)[1:]


@pytest.mark.parametrize("part", PARTS, ids=[part.splitlines()[0] for part in PARTS])
def test_what_is_quoted_stands_in_the_report(part):
    (report,) = re.findall(r"\[report\]\(([^)]+)\)", part)
    page = (PAGE.parent / report).read_text()
    words = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
    quoted = [" ".join(text.split()) for text in re.findall(r'"([^"]+)"', part)]
    assert quoted
    for text in quoted:
        assert text in words


def test_links_lead_to_files():
    for link in re.findall(r"\]\(([^)#]+)\)", PAGE.read_text()):
        assert (PAGE.parent / link).is_file(), link


def test_the_table_of_what_statistics_gain_is_that_of_its_script():
    script = PAGE.parents[1] / "benchmarks" / "frozen_gains.py"
    printed = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    assert printed.count("|") > 20
    assert printed in PAGE.read_text()
