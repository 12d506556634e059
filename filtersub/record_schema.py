"""What a record file must hold: one schema, for reading and for writing."""

from __future__ import annotations

from datetime import datetime
from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, JsonValue, model_validator

_MOST = 2**63 - 1  # what tables and Parquet files hold
_TIMES = ("wall_seconds", "seconds_per_step", "decomposition_seconds")
_MEASURED = (*_TIMES, "peak_memory_bytes", "saved_bytes", "step_flops")


def inside(file: str) -> str:
    """The name of a file in the folder of the file that names it, or in a folder in that one."""
    for path in (PurePosixPath(file), PureWindowsPath(file)):
        if path.is_absolute() or path.drive or ".." in path.parts or not path.parts:
            raise ValueError(f"is {file!r}, which is no place inside the folder of the file that names it")
    return file


def _date(text: str) -> str:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"is {text!r}, which is no date; write it as 2026-01-31T12:00:00+00:00") from None
    return text


Integer = Annotated[int, Field(ge=-_MOST, le=_MOST)]
Count = Annotated[int, Field(ge=0, le=_MOST)]


class EnvironmentSchema(BaseModel):
    """Where a run was made; more may be noted than is named here."""

    model_config = ConfigDict(strict=True, extra="allow")
    versions: dict[str, str | None] = {}
    hardware: dict[str, JsonValue] = {}
    commit: str | None = None
    dirty: bool | None = None
    date: Annotated[str, AfterValidator(_date)] | None = None


class RecordSchema(BaseModel):
    """The fields of records.Record as they are in a file."""

    model_config = ConfigDict(strict=True, extra="forbid")
    kind: Annotated[str, Field(min_length=1)]
    label: str
    parameters: dict[str, JsonValue]
    seed: Integer
    metrics: dict[str, FiniteFloat]
    counts: dict[str, Count]
    cost: dict[str, FiniteFloat | None]
    environment: EnvironmentSchema
    status: str = "done"
    version: Annotated[int, Field(alias="schema", ge=1)] = 1
    tables: dict[str, Annotated[str, AfterValidator(inside)]] = {}
    choices: dict[str, JsonValue] = {}
    notes: dict[str, str] = {}

    @model_validator(mode="after")
    def _is_comparable(self) -> RecordSchema:
        for name, value in self.metrics.items():
            if name.endswith("accuracy") and not 0 <= value <= 1:
                fix = f"; write {value / 100:g} for {value:g} %" if 1 < value <= 100 else ""
                raise ValueError(f"metrics.{name} is {value:g}, and accuracies are fractions of 1{fix}")
        for name in _MEASURED:
            if (self.cost.get(name) or 0) < 0:
                raise ValueError(f"cost.{name} is {self.cost[name]:g}, and nothing takes less than 0")
        if self.kind == "tuning" and "test_accuracy" in self.metrics:
            for name in ("trainable", "head", "total"):
                if name not in self.counts:
                    raise ValueError(f"counts.{name} is missing, which a tuning run needs to be compared with others")
            if self.counts["total"] < 1:
                raise ValueError("counts.total is 0; it is the number of the model's own parameters")
        return self
