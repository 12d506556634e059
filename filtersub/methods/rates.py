"""Usual learning rates of each method: one table."""

from dataclasses import dataclass

HEAD_RATE = 3e-3  # of heads
BLOCKS = "filter-subspace, blocks"  # settings 3 and 4


@dataclass(frozen=True)
class UsualRates:
    """Peak learning rates that runs take unless told.

    Attributes
    ----------
    frozen : where batch norm keeps the statistics of pretraining
    moving : where these are recomputed, updated or adapted; of atoms, full tuning and the head chosen on validation
        images of the digits, of other methods not chosen
    tried : validation accuracies in % that ``frozen`` was chosen by, each at its rate, and where they were measured
    """

    frozen: float = 3e-3
    moving: float = 3e-3
    tried: str = ""


RATES: dict[str, UsualRates] = {
    "filter-subspace": UsualRates(
        0.003, moving=0.03, tried="97.0 at 0.003 and 98.0 at 0.01, of 300 images 78.0 and 72.8"
    ),
    BLOCKS: UsualRates(0.003, moving=0.02, tried="98.0 at 0.003 and 98.8 at 0.01, of 300 images 76.9 and 73.1"),
    "linear": UsualRates(0.003, tried="its head: 93.5 at 0.003 and 94.5 at 0.01, of 300 images 75.7 and 75.6"),
    "full": UsualRates(
        0.0003, tried="97.5 at 0.0003 and 98.5 at 0.001, of 300 images (digits, Fashion-MNIST) 88.5 and 87.0"
    ),
    "bitfit": UsualRates(0.01, tried="short runs: 94.0 at 0.003, 95.5 at 0.01"),
    "norm": UsualRates(0.01, tried="short runs: 92.0 at 0.003, 94.0 at 0.01"),
    "ssf": UsualRates(0.01, tried="short runs: 95.0 at 0.001, 96.0 at 0.003, 98.0 at 0.01"),
    "conv-adapter": UsualRates(0.003, tried="short runs: 98.5 at 0.003, 97.0 at 0.01"),
    "lora": UsualRates(0.003, tried="98.0 at 0.003; no other"),
    "lora-loralib": UsualRates(0.003, tried="of 300 images 76.7 at 0.0003, 78.3 at 0.001 and 80.2 at 0.003"),
    "dora": UsualRates(0.003, tried="short runs: 97.5 at 0.003, 97.5 at 0.01"),
    "loha": UsualRates(0.01, tried="short runs: 92.0 at 0.003, 97.5 at 0.01"),
    "lokr": UsualRates(0.01, tried="short runs: 91.0 at 0.003, 95.5 at 0.01"),
    "oft": UsualRates(0.003, tried="short runs: 95.5 at 0.001, 98.0 at 0.003, 9.5 at 0.01"),
    "boft": UsualRates(0.003, tried="not tried"),
    "adalora": UsualRates(0.01, tried="short runs: 86.5 at 0.003, 94.0 at 0.01"),
    "tucker-lora": UsualRates(0.003, tried="short runs: 96.5 at 0.003, 83.5 at 0.01"),
    "tucker-loha": UsualRates(0.003, tried="short runs: 97.5 at 0.003, 9.0 at 0.01"),
    "tucker-lokr": UsualRates(0.01, tried="short runs: 94.0 at 0.003, 96.5 at 0.01"),
    "hra": UsualRates(0.003, tried="short runs: 97.0 at 0.003, 19.0 at 0.01"),
    "hira": UsualRates(0.01, tried="short runs: 93.0 at 0.003, 97.0 at 0.01"),
    "ia3": UsualRates(0.01, tried="short runs: 90.5 at 0.003, 94.5 at 0.01"),
}


def usual_rate(method: str, *, blocks: bool, batch_norm: str) -> float:
    """The peak learning rate of a run that names none."""
    rates = RATES[BLOCKS if method == "filter-subspace" and blocks else method]
    return rates.frozen if batch_norm == "frozen" else rates.moving
