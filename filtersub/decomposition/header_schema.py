"""What the header of a saved decomposition must hold beside its tensors: recipe, sharing, each layer's diagnostics."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, JsonValue, model_validator

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
    objective: FiniteFloat
    squared_error: Annotated[FiniteFloat, Field(ge=0)]
    squared_norm: Annotated[FiniteFloat, Field(ge=0)]
    iterations: Annotated[int, Field(ge=0)]
    seconds: Annotated[FiniteFloat, Field(ge=0)]
    converged: bool
    history: list[FiniteFloat] = []
    stopped: str = ""
    note: str = ""
    dictionary: str | None = None
    weight_fingerprint: list[FiniteFloat] = []
    fingerprint: list[FiniteFloat] | None = None
    levels: list[Annotated[list[FiniteFloat], Field(min_length=2, max_length=2)]] = []
    blocks: LayerSchema | None = None

    @model_validator(mode="after")
    def _is_one_decomposition(self) -> LayerSchema:
        if self.blocks is not None and self.blocks.blocks is not None:
            raise ValueError("has blocks of blocks, which no recipe makes")
        if self.blocks is not None and (self.fingerprint is None) != (self.blocks.fingerprint is None):
            raise ValueError("has the fingerprint of one part of its coefficients, not of the other")
        return self


def _sharing(value: object) -> object:
    if isinstance(value, bool) or (isinstance(value, list) and all(isinstance(each, str) for each in value)):
        return value
    raise ValueError("should be true, false or a list of patterns of layer names")


class HeaderSchema(BaseModel):
    """The whole header; recipe_file and DecompositionConfig look at the settings of a recipe one by one."""

    model_config = ConfigDict(strict=True, extra="allow")
    recipe: dict[str, JsonValue]
    overrides: dict[str, dict[str, JsonValue]] | None = None
    shared: Annotated[bool | list[str], BeforeValidator(_sharing)] = False
    layers: Annotated[dict[str, LayerSchema], Field(min_length=1)]
