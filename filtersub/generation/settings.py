"""What every run of generation is made of: a method, a training, and how many images are drawn."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import check_whole, select_fields
from .denoising_config import DenoisingConfig
from .methods import PAPER_RATES, MethodSettings


@dataclass(frozen=True, kw_only=True)
class GenerationSettings(MethodSettings, DenoisingConfig):
    """MethodSettings, DenoisingConfig, and beside them:

    Attributes
    ----------
    learning_rate : None takes the method's usual one
    images : drawn and compared; sampling_steps : of the sampler, for each image
    """

    learning_rate: float | None = None
    images: int
    sampling_steps: int

    def __post_init__(self) -> None:
        MethodSettings.__post_init__(self)
        if self.learning_rate is None:
            object.__setattr__(self, "learning_rate", self.usual_rate)
        DenoisingConfig.__post_init__(self)
        check_whole("images", self.images, 0)

    @property
    def usual_rate(self) -> float:
        """The paper's."""
        return PAPER_RATES[self.method]

    @property
    def label(self) -> str:
        """What a reader calls the run, without its seed."""
        return f"{super().label}, SOAP" if self.optimizer == "soap" else super().label

    @property
    def tuned(self) -> MethodSettings:
        return select_fields(self, MethodSettings)

    @property
    def training(self) -> DenoisingConfig:
        return select_fields(self, DenoisingConfig)
