"""A slice of the zoo (tests/zoo.py, `make zoo`), and its page."""

import pytest
from torch import nn
from zoo import PAGE, page
from zoo_models import ZOO, Entry, images
from zoo_steps import OPERATIONS, SETTINGS, loads_again, run, verdict

from filtersub.errors import FiltersubError

SLICE = {
    "timm:test_resnet": (),
    "timm:test_nfnet": (),
    "torch:circular padding": (),
    "torch:transposed": (),
    "torch:volumes": (),
    "torch:spectral norm": (),
    "torch:tied and reused": (),
    "transformers:MambaForCausalLM": (),
    "transformers:SpeechT5HifiGan": (),
    "transformers:EncodecModel": SETTINGS,  # every convolution is weight-normalised
}
QUICK = tuple(name for name in OPERATIONS if name not in ("export", "ONNX"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SLICE)
def test_an_architecture_goes_through_every_operation(name, tmp_path):
    entry = next(each for each in ZOO if each.name == name)
    pytest.importorskip(name.partition(":")[0])
    found = run(entry, tmp_path, QUICK)
    refused = {key for key, what in found.items() if what.startswith("refused: ")}
    assert refused == set(SLICE[name])
    assert {key: what for key, what in found.items() if key not in {*refused, "layers"} and what != "right"} == {}
    loads_again(entry, tmp_path)


def thin_network():
    def block(channels, side):
        return nn.Conv2d(channels, 16, side, side, bias=False), nn.BatchNorm2d(16), nn.ReLU()

    deep = [layer for _ in range(12) for layer in block(16, 1)]
    return nn.Sequential(*block(3, 4), *deep, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3))


def test_batch_norms_that_have_seen_one_pixel_an_image_make_no_network_to_judge():
    with pytest.raises(AssertionError, match=r"thin: outputs up to \d\.\de\+\d+, .* in training"):
        Entry("thin", "plain", thin_network, images(4)).make()
    model, (inputs,) = Entry("thin", "plain", thin_network, images(12)).make()
    assert 0.1 < float(model(inputs).detach().abs().max()) < 2


def test_nothing_is_wrong_on_the_page_of_at_least_sixty_architectures():
    text = PAGE.read_text()
    assert len({entry.name for entry in ZOO}) == len(ZOO)
    assert sum(f"| {entry.name} |" in text for entry in ZOO) >= 60
    assert "WRONG" not in text


def test_verdicts_and_their_cells():
    def refuse(text):
        raise FiltersubError(text)

    def fail():
        assert 1 == 2, "numbers differ"

    verdicts = [verdict(call) for call in (lambda: None, lambda: refuse("no"), lambda: refuse("a\nb"), fail)]
    assert verdicts[:2] == ["right", "refused: no"]
    assert [what.startswith("WRONG") for what in verdicts] == [False, False, True, True]
    names = [entry.name for entry in ZOO[:2]]
    text = page(
        {
            names[0]: {"merge": "right", "load": "refused: no", "layers": "3"},
            names[1]: {"load": "refused: no", "layers": "1"},
        },
        {"a tool: as it is": "library: cannot"},
    )
    assert "1 of 3 operations on 2 architectures" in text.replace("*", "")
    assert text.count("refused 1 |") == 2
    assert "| a tool: as it is | library 2 |" in text
    assert text.endswith("1. no\n2. cannot\n")
