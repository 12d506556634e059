"""What the header of a saved decomposition must hold beside its tensors: recipe, sharing, each layer's diagnostics."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

_Side = Annotated[int, Field(ge=1)]


class LayoutSchema(BaseModel):
    """kernels.KernelLayout as it is in a file."""

    model_config = ConfigDict(strict=True, extra="forbid")
    name: str
    kind: str
    shape: Annotated[list[_Side], Field(min_length=2)]
    groups: _Side = 1
    block: Annotated[list[_Side], Field(min_length=2, max_length=2)] = [1, 1]


class LayerSchema(BaseModel):
    """result.Decomposition without its tensors; ``fingerprint`` stands for coefficients that were left out."""

    model_config = ConfigDict(strict=True, extra="allow")
    layout: LayoutSchema
    solver: str
    objective: float
    squared_error: Annotated[float, Field(ge=0)]
    squared_norm: Annotated[float, Field(ge=0)]
    iterations: Annotated[int, Field(ge=0)]
    seconds: float
    converged: bool
    history: list[float] = []
    stopped: str = ""
    note: str = ""
    dictionary: str | None = None
    weight_fingerprint: list[float] = []
    fingerprint: list[float] | None = None
    levels: list[Annotated[list[float], Field(min_length=2, max_length=2)]] = []
    blocks: LayerSchema | None = None

    @model_validator(mode="after")
    def _leaves_all_coefficients_out(self) -> LayerSchema:
        if self.blocks is not None and (self.fingerprint is None) != (self.blocks.fingerprint is None):
            raise ValueError("has the fingerprint of one part of its coefficients, not of the other")
        return self


class HeaderSchema(BaseModel):
    """The whole header; recipe_file and DecompositionConfig look at the settings of a recipe one by one."""

    model_config = ConfigDict(strict=True, extra="allow")
    recipe: dict[str, JsonValue]
    overrides: dict[str, dict[str, JsonValue]] | None = None
    shared: bool | list[str] = False
    layers: dict[str, LayerSchema]
