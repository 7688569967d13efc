"""The answer has the form asked for: its length in words, sentences or characters, a list, one line, JSON."""

from __future__ import annotations

import re

import regex
from pydantic import BaseModel, ConfigDict, Field

from interlock.evals.metrics._claims import sentences
from interlock.evals.metrics._json import json_in
from interlock.evals.ports import Instruments, Metric
from interlock.evals.types import Case, Output, Score

__all__ = ["Options", "plugin"]

# A sign of a script without spaces counts as a word.
_WORD = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]|[\p{L}\p{M}\p{N}]+(?:['’.,-][\p{L}\p{M}\p{N}]+)*")
_ITEM = re.compile(r"^\s*(?:[-*+•‣◦]|\(?\d{1,3}[.)])\s+\S")


class Options(BaseModel):
    """Which form. What is not given is not asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_words: int | None = Field(default=None, ge=0, description="fewest words")
    max_words: int | None = Field(default=None, ge=0, description="most words")
    min_sentences: int | None = Field(default=None, ge=0, description="fewest sentences")
    max_sentences: int | None = Field(default=None, ge=0, description="most sentences")
    max_characters: int | None = Field(default=None, ge=0, description="most characters")
    list_items: int | None = Field(default=None, ge=1, description="a bullet or numbered list of so many items or more")
    one_line: bool = Field(default=False, description="no line break")
    is_json: bool = Field(default=False, description="JSON and nothing beside it")


def score(case: Case, output: Output, options: Options, instruments: Instruments) -> Score:
    """1 when every demand is met; the reason names those that are not."""
    text = output.text.strip()
    asked: list[tuple[str, bool]] = []
    for low, high, count, name in (
        (options.min_words, options.max_words, len(_WORD.findall(text)), "words"),
        (options.min_sentences, options.max_sentences, len(sentences(text)), "sentences"),
        (None, options.max_characters, len(text), "characters"),
        (options.list_items, None, sum(bool(_ITEM.match(line)) for line in text.splitlines()), "list items"),
    ):
        if low is not None:
            asked.append((f"{count} {name}, {low} at least", count >= low))
        if high is not None:
            asked.append((f"{count} {name}, {high} at most", count <= high))
    if options.one_line:
        asked.append(("more than one line", len(text.splitlines()) <= 1))
    if options.is_json:
        asked.append(("no JSON", json_in(text, fenced=False).found))
    if not asked:
        return Score(None, "neither the suite nor the case asks for a form")
    return Score(float(all(met for _, met in asked)), "; ".join(fault for fault, met in asked if not met))


plugin = Metric(Options, "binary", score)
