"""What a judge is: kind, criteria, scale, model. Whatever changes a verdict changes its identity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from interlock.core.canonical import digest_json
from interlock.core.errors import InvalidInput, NotFound
from interlock.core.yaml_text import YamlFault, read_yaml

__all__ = ["JudgeKind", "JudgeSpec", "identity", "read_judge"]

JudgeKind = Literal["rubric", "reference", "pairwise"]
PROMPTS = 1
"""Version of the words around the criteria (`asking.py`): goes up when they change."""


class JudgeSpec(BaseModel):
    """A judge file: ``judges/NAME.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    judge: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")] = "judge"
    kind: JudgeKind = Field(
        default="rubric",
        description="rubric: the answer alone; reference: against `expected`; pairwise: which of two answers is better",
    )
    criteria: str = Field(min_length=1, max_length=20_000, description="what to look at, in your own words")
    scale: int = Field(default=5, ge=2, le=10, description="points of a rubric, 1 the worst; 2 is no or yes")
    passes_at: int | None = Field(default=None, description="points from which on an answer passes; makes it 0 or 1")
    models: list[str] = Field(
        default_factory=list,
        max_length=9,
        description="a panel: each is asked, the middle verdict counts; empty: the model that the run names",
    )

    @model_validator(mode="after")
    def _fits(self) -> JudgeSpec:
        if self.passes_at is not None and not 1 < self.passes_at <= self.scale:
            raise ValueError(f"passes_at lies above 1 and is {self.scale} at most")
        if len(set(self.models)) != len(self.models):
            raise ValueError("a model is in the panel twice")
        if self.kind == "pairwise" and self.passes_at is not None:
            raise ValueError("a pairwise judge has no points to pass at")
        return self

    def asks(self, default: str) -> Sequence[str]:
        """The models that are asked, given the one of the run."""
        return self.models or [default]


def identity(spec: JudgeSpec, default_model: str) -> str:
    """Digest of everything that decides its verdicts: a licence holds for exactly this."""
    told = spec.model_dump(mode="json", exclude={"judge"})
    return digest_json({**told, "models": list(spec.asks(default_model)), "prompts": PROMPTS})


def read_judge(path: Path) -> JudgeSpec:
    """Read a judge's file. Raises: NotFound; InvalidInput naming file and field."""
    try:
        given = read_yaml(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"there is no judge {path.name!r}", param="judge", hint="judges/NAME.yaml") from error
    except (OSError, UnicodeDecodeError, YamlFault) as error:
        raise InvalidInput(f"the judge {path.name!r} cannot be read as YAML", param="judge") from error
    if not isinstance(given, dict):
        raise InvalidInput(f"the judge {path.name!r} is not a mapping of fields", param="judge")
    try:
        return JudgeSpec.model_validate({"judge": path.name.partition(".")[0], **given})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "judge"
        raise InvalidInput(f"{path.name!r}: {field}: {first['msg']}", param=field) from error
