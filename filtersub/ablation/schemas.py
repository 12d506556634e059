"""What the files of an ablation must hold: its plan (``ablation.json``) and the state of a run (``run.json``)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, JsonValue

from ..record_schema import inside


class PlannedRunSchema(BaseModel):
    """A run as a plan has it; its folder lies below the plan's."""

    model_config = ConfigDict(strict=True, extra="allow")
    run_id: Annotated[str, Field(min_length=1)]
    folder: Annotated[str, AfterValidator(inside)]
    reads_records: bool
    notebook: str = ""
    parameters: dict[str, JsonValue] = {}


class PlanSchema(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")
    name: str = ""
    title: str = ""
    question: str = ""
    source: str = ""
    runs: list[PlannedRunSchema]


class StateSchema(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")
    status: Literal["waiting", "running", "done", "failed"] = "waiting"
    started: FiniteFloat = 0.0
    seconds: FiniteFloat = 0.0
    notebook: str = ""
    parameters: dict[str, JsonValue] = {}
    passed: dict[str, JsonValue] = {}
