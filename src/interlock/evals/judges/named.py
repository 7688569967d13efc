"""The judge that a metric's options name: written there, or a file beside the suite."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from interlock.core.errors import InvalidInput
from interlock.evals.judges.licence import find_licence, read_licences, why_not
from interlock.evals.judges.spec import JudgeSpec, identity, read_judge
from interlock.evals.ports import Instruments

__all__ = ["JudgedBy", "may_not_gate", "spec_of"]


class JudgedBy(BaseModel):
    """Options of a metric that asks a judge."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    judge: JudgeSpec | Annotated[str, StringConstraints(min_length=1)] = Field(
        description="a judge, or a file beside the suite: judges/helpful.yaml"
    )


def spec_of(options: JudgedBy, folder: Path | None) -> JudgeSpec:
    """The judge. Raises: NotFound, InvalidInput."""
    if isinstance(options.judge, JudgeSpec):
        return options.judge
    return _read((folder or Path()) / options.judge)


@lru_cache(maxsize=64)
def _cached(path: Path, stamp: int) -> JudgeSpec:
    return read_judge(path)


def _read(path: Path) -> JudgeSpec:
    stamp = path.stat().st_mtime_ns if path.is_file() else 0
    return _cached(path, stamp)


def may_not_gate(options: BaseModel, instruments: Instruments, *, at: datetime) -> str:
    """Why the judge behind a metric may not gate; empty when it may."""
    if not isinstance(options, JudgedBy):
        return "it names no judge that could be calibrated"
    try:
        spec = spec_of(options, instruments.workspace)
        licence = find_licence(
            read_licences(_folders(instruments)), identity=identity(spec, instruments.judge), judge=spec.judge
        )
    except InvalidInput as error:
        return error.message
    return why_not(licence, identity(spec, instruments.judge), at=at)


def _folders(instruments: Instruments) -> Iterable[Path]:
    beside = [instruments.workspace / "judges"] if instruments.workspace is not None else []
    return [folder for folder in dict.fromkeys([*beside, *instruments.licences]) if folder.is_dir()]
