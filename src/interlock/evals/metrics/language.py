"""The answer is in the language asked for: that of an option, of the slice `language`, or of the question."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from interlock.evals.metrics._library import library
from interlock.evals.metrics._words import encodable
from interlock.evals.ports import Instruments, Metric
from interlock.evals.types import Case, Output, Score

__all__ = ["Options", "plugin"]

_Code = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]
_COMMON = (
    "ar bg ca cs da de el en es et fa fi fr he hi hr hu id it ja ko lt lv ms nl no pl pt ro ru sk sl sr "
    "sv th tr uk vi zh"
)
_LEAST_LETTERS = 16
_LEAST_SIGNS = 4
"""Of scripts in which one sign says as much as several letters."""


class Options(BaseModel):
    """Which language."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    language: _Code | None = Field(default=None, description="ISO 639-1 code; else the case's, else the question's")
    among: list[_Code] = Field(default_factory=_COMMON.split, min_length=2, description="languages that are told apart")


class _Told(NamedTuple):
    code: str
    sure: bool


def score(case: Case, output: Output, options: Options, instruments: Instruments) -> Score:
    """1 when it is; no score where a text is too short to tell."""
    wanted = options.language or case.slices.get("language", "").casefold().partition("-")[0]
    if not wanted:
        if not _is_long_enough(case.question):
            return Score(None, "the question is too short to tell its language")
        asked = _language(case.question, tuple(options.among))
        if not asked.sure:
            return Score(None, "the question's language is not clear")
        wanted = asked.code
    if not _is_long_enough(output.text):
        return Score(None, "the answer is too short to tell its language")
    found = _language(output.text, tuple(sorted({*options.among, *([wanted] if wanted in _known() else [])})))
    return Score(float(found.code == wanted), "" if found.code == wanted else f"{found.code}, not {wanted}")


def _is_long_enough(text: str) -> bool:
    letters = [char for char in text if char.isalpha()]
    return len(letters) >= _LEAST_LETTERS or sum(ord(char) >= 0x2E80 for char in letters) >= _LEAST_SIGNS


_lock = threading.Lock()
"""The library keeps its choice of languages in the model."""


@lru_cache(maxsize=1)
def _model() -> Any:  # Any: the library has no types
    langid = library("py3langid.langid")
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)


@lru_cache(maxsize=1)
def _known() -> frozenset[str]:
    with _lock:
        _model().set_languages(None)
        return frozenset(_model().labels)


def _language(text: str, among: tuple[str, ...]) -> _Told:
    known = [code for code in among if code in _known()]
    with _lock:
        model = _model()
        model.set_languages(known)
        code, probability = model.classify(encodable(text[:5_000]))
    return _Told(str(code), float(probability) >= 0.8)


plugin = Metric(Options, "binary", score, libraries=("py3langid",), source="py3langid (Lui and Baldwin 2012)")
