"""The answer holds given words: any, all or none of them; without options any of the case's references."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from interlock.evals.ports import Instruments, Metric
from interlock.evals.types import Case, Output, Score

__all__ = ["Options", "plugin"]


class Options(BaseModel):
    """Which words."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    any: list[str] = Field(default_factory=list, description="one of these is enough")
    all: list[str] = Field(default_factory=list, description="every one of these")
    none: list[str] = Field(default_factory=list, description="not one of these")
    case_sensitive: bool = Field(default=False, description="tell capitals from small letters")


def score(case: Case, output: Output, options: Options, instruments: Instruments) -> Score:
    """1 when every demand is met. White space counts as one blank."""

    def form(text: str) -> str:
        spaced = " ".join(text.split())
        return spaced if options.case_sensitive else spaced.casefold()

    wanted = options.any if options.any or options.all or options.none else case.references
    if not (wanted or options.all or options.none):
        return Score(None, "neither the suite nor the case says which words")
    text = form(output.text)
    faults = []
    if wanted and not any(form(each) in text for each in wanted):
        faults.append(f"none of {len(wanted)} wordings")
    missing = sum(form(each) not in text for each in options.all)
    if missing:
        faults.append(f"{missing} of {len(options.all)} wordings missing")
    unwanted = sum(form(each) in text for each in options.none)
    if unwanted:
        faults.append(f"{unwanted} unwanted wordings")
    return Score(float(not faults), ", ".join(faults))


plugin = Metric(Options, "binary", score)
