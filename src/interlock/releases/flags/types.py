"""What flags talk about, in the words of the OpenFeature specification."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

__all__ = ["RESERVED", "FlagName", "FlagRule", "FlagSpec", "Reason", "Resolution", "kind_of"]

FlagName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
RESERVED = frozenset({"release", "channel", "arm"})
"""Every app has these by itself."""
Reason = Literal["STATIC", "DEFAULT", "TARGETING_MATCH", "SPLIT", "DISABLED"]
# Any: an object flag's value is JSON of the user's own.
FlagValue = bool | int | float | str | dict[str, Any]
Plain = bool | int | float | str


def kind_of(value: FlagValue) -> Literal["boolean", "string", "number", "object"]:
    """The type of a flag by one of its values."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "object"


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FlagRule(_Spec):
    """Whom a variant is for. The first rule that fits decides."""

    when: dict[str, Plain | list[Plain]] = Field(
        default={}, description="attributes of the evaluation context and the value, or values, they have; all of them"
    )
    variant: str | None = Field(default=None, description="this one")
    split: dict[str, Annotated[float, Field(ge=0)]] | None = Field(
        default=None, description="variants and their weights; a targeting key stays with its variant"
    )
    arm_of: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_-]{1,64}(@(stage|prod))?$",
        description="an app: the variant that is called as the arm is that its rollout or experiment gives the unit",
    )

    @model_validator(mode="after")
    def _one(self) -> FlagRule:
        if sum(each is not None for each in (self.variant, self.split, self.arm_of)) != 1:
            raise ValueError("a rule has one of variant, split and arm_of")
        if self.split is not None and not sum(self.split.values()) > 0:
            raise ValueError("the weights of a split are not all 0")
        return self


class FlagSpec(_Spec):
    """A flag of `app.yaml`, or of the workspace."""

    description: str = Field(default="", max_length=500, description="for people")
    variants: dict[FlagName, FlagValue] = Field(min_length=1, max_length=50, description="by name; all of one type")
    default: str = Field(description="the variant of whom no rule fits")
    enabled: bool = Field(default=True, description="false: callers keep the value that their code gives")
    rules: list[FlagRule] = Field(default=[], max_length=50, description="in order: the first that fits decides")

    @field_validator("variants", mode="before")
    @classmethod
    def _told(cls, said: Any) -> Any:  # Any: before validation
        if isinstance(said, dict):
            for name, value in said.items():
                if not _is_finite(value):
                    raise ValueError(f"the variant {str(name)[:64]!r} holds a number that is not finite")
        return said

    @model_validator(mode="after")
    def _whole(self) -> FlagSpec:
        if len({kind_of(value) for value in self.variants.values()}) > 1:
            raise ValueError("the variants of a flag are of one type: booleans, strings, numbers or objects")
        named = {self.default} | {
            n for r in self.rules for n in ([r.variant] if r.variant is not None else r.split or ())
        }
        if unknown := sorted(named - set(self.variants)):
            raise ValueError(f"there is no variant {unknown[0]!r}")
        return self


def _is_finite(value: object) -> bool:
    """Whether JSON has all of its numbers."""
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a flag is for one evaluation context."""

    key: str
    reason: Reason
    value: FlagValue | None = None
    """None: the caller keeps the value that its code gives."""
    variant: str | None = None
    metadata: Mapping[str, str | bool | int | float] = field(default_factory=dict)
