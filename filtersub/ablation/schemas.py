"""What the files of an ablation must hold: the YAML file, its plan (``ablation.json``), a run's ``run.json``."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, JsonValue

from ..record_schema import inside


def _distinct(values: list[Any]) -> list[Any]:
    seen: set[str] = set()
    for value in values:
        if (written := repr(value)) in seen:
            raise ValueError(f"has the value {value!r} twice")
        seen.add(written)
    return values


def _title(text: str) -> str:
    return " ".join(text.split())


Values = Annotated[list[Any], Field(min_length=1), AfterValidator(_distinct)]
Patterns = Annotated[list[Annotated[dict[str, Any], Field(min_length=1)]], Field(min_length=1)]


class PaperSchema(BaseModel):
    """Which runs of the paper a stage takes; see spec."""

    model_config = ConfigDict(strict=True, extra="forbid")
    part: str
    runs: list[str] = []
    sizes: Literal["all", "one"] = "all"
    given_as: Annotated[str, Field(alias="as")] = ""


class StageSchema(BaseModel):
    """A stage as the file has it, before its grid is spread; what the keys mean: spec.Stage."""

    model_config = ConfigDict(strict=True, extra="forbid")
    notebook: str
    paper: PaperSchema = None  # type: ignore[assignment]
    parameters: dict[str, Any] = {}
    runs: Annotated[list[dict[str, Any]], Field(min_length=1)] = [{}]
    grid: dict[str, Values] = {}
    seeds: Annotated[list[int], Field(min_length=1), AfterValidator(_distinct)] = None  # type: ignore[assignment]
    reads_records: bool = False
    skip: Patterns = []
    only: Patterns = []


class SpecSchema(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")]
    title: Annotated[str, AfterValidator(_title)]
    question: Annotated[str, AfterValidator(_title)]
    stages: Annotated[list[StageSchema], Field(min_length=1)]


class PlannedRunSchema(BaseModel):
    """A run as a plan has it; its folder lies below the plan's."""

    model_config = ConfigDict(strict=True, extra="allow")
    run_id: Annotated[str, Field(min_length=1)]
    folder: Annotated[str, AfterValidator(inside)]
    reads_records: bool
    notebook: str = ""
    parameters: dict[str, JsonValue] = {}


def _distinct_names(runs: list[PlannedRunSchema]) -> list[PlannedRunSchema]:
    _distinct([run.run_id for run in runs])
    return runs


class PlanSchema(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")
    version: Annotated[int, Field(alias="schema", ge=1)] = 1
    name: str = ""
    title: str = ""
    question: str = ""
    source: str = ""
    runs: Annotated[list[PlannedRunSchema], AfterValidator(_distinct_names)]


class StateSchema(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")
    status: Literal["waiting", "running", "done", "failed"] = "waiting"
    started: FiniteFloat = 0.0
    seconds: FiniteFloat = 0.0
    notebook: str = ""
    parameters: dict[str, JsonValue] = {}
    passed: dict[str, JsonValue] = {}
