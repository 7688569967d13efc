"""What `pipeline` of an app's file says."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from interlock.core.release import Release

__all__ = ["PipelineSpec", "Section", "pipeline_of"]

_Label = Annotated[str, StringConstraints(pattern=r"^\S.{0,99}$")]


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Section(_Written):
    """One part of a draft."""

    title: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    instruction: Annotated[str, StringConstraints(min_length=1, max_length=4000)] = Field(
        description="what stands in it"
    )


class PipelineSpec(_Written):
    """Component `pipeline` of a release."""

    kind: Literal["summarise", "extract", "classify", "draft"] = Field(
        description="summarise: parts, then a whole; extract: a form (`output`) from every part, joined; classify: one"
        " of `labels`, or several; draft: `sections`, each from the text"
    )
    instruction: str = Field(default="", max_length=4000, description="what matters, beside the app's prompt")
    part_words: int = Field(default=900, ge=50, le=50_000, description="most words of a part")
    overlap_words: int = Field(default=40, ge=0, le=1_000, description="words of a part that the next repeats")
    most_parts: int = Field(default=100, ge=1, le=2_000, description="a longer text is refused")
    concurrency: int = Field(default=4, ge=1, le=64, description="parts at a time")
    words: int = Field(default=200, ge=10, le=5_000, description="of a summary, about")
    labels: dict[_Label, str] = Field(
        default_factory=dict, max_length=200, description="to choose from, each with what it means; may be empty"
    )
    several: bool = Field(default=False, description="a text may have several labels, or none")
    sections: list[Section] = Field(default_factory=list, max_length=50)

    @model_validator(mode="after")
    def _has_what_its_kind_takes(self) -> PipelineSpec:
        if (self.kind == "classify") != bool(self.labels) or (self.kind == "classify" and len(self.labels) < 2):
            raise ValueError("labels, two or more, go with kind: classify, which takes them")
        if (self.kind == "draft") != bool(self.sections):
            raise ValueError("sections go with kind: draft, which takes one or more")
        if self.overlap_words * 2 > self.part_words:
            raise ValueError("overlap_words is at most half of part_words")
        return self


def pipeline_of(release: Release) -> PipelineSpec | None:
    """How a release works through a text; None where it answers."""
    found: Any = release.components.get("pipeline")  # Any: JSON values
    return None if found is None else PipelineSpec.model_validate(found, extra="ignore")
