"""Results show themselves: escaped, without script or reference, with atoms as a picture of the right pixels."""

import base64
import io
import re

import pytest
import torch
from conftest import external_references, planted
from PIL import Image
from torch import nn

from filtersub import DecompositionConfig, count_parameters, decompose_model, encode, learn_dictionary
from filtersub.markup import atoms_html, boards, codes_html, facts_html, table_html
from filtersub.records import Record

ROWS, ATOMS, _ = planted(200, 4, 9, 2)
MODEL = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 1))
FOUND = decompose_model(MODEL, DecompositionConfig(atoms=4, block=2, expansion=3))
RECORD = Record(
    "tuning", "<b>", {"token": "secret"}, 1, {"test_accuracy": 0.5}, {}, {}, {"hardware": {"device": "cpu"}}
)
RESULTS = {
    "layer": (lambda: FOUND.layers["0"], "48 of 9 numbers"),
    "model": (lambda: FOUND, "2 layers"),
    "codes": (lambda: encode(ROWS, ATOMS, "lasso", l1_penalty=0.01), "200 rows over 4 atoms"),
    "dictionary": (lambda: learn_dictionary(ROWS, 4, l1_penalty=0.01), "4 of 9 numbers"),
    "count": (lambda: count_parameters("resnet18", num_classes=10), "resnet18"),
    "record": (lambda: RECORD, "test accuracy"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_each_result_shows_itself_safely(name):
    make, said = RESULTS[name]
    shown = make()._repr_html_()
    assert said in shown
    assert external_references(shown) == []
    assert "<script" not in shown
    assert len(shown) < 20_000
    assert shown.count("<table") == shown.count("</table>") >= 1
    assert "secret" not in shown
    assert "<b>" not in shown


def test_what_comes_from_outside_is_escaped():
    assert "<i>" not in facts_html("<i>", [("<i>", "<i>")]) + table_html(["<i>"], [["<i>"]])


def test_long_tables_lose_their_middle_and_say_so():
    shown = table_html(["n"], [[n] for n in range(100)], most=6)
    assert re.findall(r">(\d+)</td>", shown) == ["0", "1", "2", "97", "98", "99"]
    assert "the first and last 3 of 100" in shown


def test_codes_of_largest_norm_are_unfolded_with_their_largest_atoms():
    shown = codes_html(torch.tensor([[0.0, 0.5], [0.0, 0.0], [-3.0, 1.0]]), "kernel {}".format, most=2)
    assert re.findall(r">([^<>]+)</td>", shown) == [
        *("kernel 2", "2", "-3 of atom 0, 1 of atom 1"),
        *("kernel 0", "1", "0.5 of atom 1"),
    ]
    assert "<details>" in shown


def test_atoms_are_pictured_pixel_by_pixel():
    atoms = torch.stack([torch.eye(3), -torch.eye(3)])
    shown = atoms_html(atoms)
    picture = Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", shown)[1])))
    assert picture.size == (7, 3)
    red, _, blue, _ = picture.getpixel((0, 0))
    assert red > blue
    red, _, blue, _ = picture.getpixel((4, 0))
    assert blue > red
    assert picture.getpixel((3, 1))[3] == 0  # between two atoms
    assert atoms_html(torch.ones(3, 1, 1)) == ""


@pytest.mark.parametrize("patch", [(1, 3, 3, 1), (2, 3, 2), (2, 2), (1, 2, 3, 4, 1), (2, 3, 3, 2)])
def test_boards_hold_every_number_of_an_atom_once(patch):
    size = torch.Size(patch).numel()
    board = boards(torch.arange(2.0 * size).reshape(2, size), patch)
    assert board.ndim == 3
    assert sorted(board[1].flatten().tolist()) == list(range(size, 2 * size))


def test_a_channel_block_is_laid_out_by_output_and_input():
    board = boards(torch.arange(2.0 * 3 * 3 * 2).reshape(1, -1), (2, 3, 3, 2))[0]
    kernels = torch.arange(36.0).reshape(2, 3, 3, 2)
    assert torch.equal(board[3:, :3], kernels[1, :, :, 0])
