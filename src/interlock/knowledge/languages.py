"""Which languages a text is written in: scripts tell most of them apart, a classifier the rest.

Codes are ISO 639-1. Documents are told by parts of them, so that a bilingual one has both; a question is only asked
which of the collection's languages it is in, because three words are too few to choose among a hundred.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Collection, Mapping
from functools import lru_cache

from interlock.core.errors import MissingExtra

__all__ = ["KNOWN", "STEMMERS", "asked_in", "languages_of"]

STEMMERS: Mapping[str, str] = {
    "ar": "arabic", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek", "en": "english",
    "es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian", "fi": "finnish", "fr": "french",
    "ga": "irish", "hi": "hindi", "hu": "hungarian", "hy": "armenian", "id": "indonesian", "it": "italian",
    "lt": "lithuanian", "ne": "nepali", "nl": "dutch", "no": "norwegian", "pl": "polish", "pt": "portuguese",
    "ro": "romanian", "ru": "russian", "sr": "serbian", "sv": "swedish", "ta": "tamil", "tr": "turkish",
}  # fmt: skip
"""Languages whose words are stemmed, with the name Snowball gives them."""

_UNSTEMMED = (
    "bg",
    "bn",
    "gu",
    "he",
    "hr",
    "is",
    "kn",
    "ko",
    "lv",
    "mk",
    "ml",
    "mr",
    "ms",
    "pa",
    "sk",
    "sl",
    "sq",
    "te",
)
_UNSTEMMED_TOO = ("th", "uk", "ur", "vi", "zh", "ja", "af", "gl", "cy", "sw", "tl")
KNOWN = (*STEMMERS, *_UNSTEMMED, *_UNSTEMMED_TOO)
"""Languages that are told apart."""

_SCRIPTS: Mapping[str, re.Pattern[str]] = {
    name: re.compile(f"[{ranges}]")
    for name, ranges in {
        "latin": "a-zA-Z\u00c0-\u024f\u1e00-\u1eff",
        "arabic": "\u0600-\u06ff\u0750-\u077f",
        "cyrillic": "\u0400-\u04ff",
        "devanagari": "\u0900-\u097f",
        "han": "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff",
        "kana": "\u3040-\u30ff",
        "hangul": "\uac00-\ud7af\u1100-\u11ff",
        "thai": "\u0e00-\u0e7f",
        "greek": "\u0370-\u03ff",
        "hebrew": "\u0590-\u05ff",
        "armenian": "\u0530-\u058f",
        "tamil": "\u0b80-\u0bff",
        "telugu": "\u0c00-\u0c7f",
        "bengali": "\u0980-\u09ff",
        "gujarati": "\u0a80-\u0aff",
        "kannada": "\u0c80-\u0cff",
        "malayalam": "\u0d00-\u0d7f",
        "gurmukhi": "\u0a00-\u0a7f",
    }.items()
}
_BY_SCRIPT: Mapping[str, tuple[str, ...]] = {
    "arabic": ("ar", "fa", "ur"),
    "cyrillic": ("bg", "mk", "ru", "sr", "uk"),
    "devanagari": ("hi", "mr", "ne"),
    "han": ("zh", "ja"),
    "kana": ("ja",),
    "hangul": ("ko",),
    "thai": ("th",),
    "greek": ("el",),
    "hebrew": ("he",),
    "armenian": ("hy",),
    "tamil": ("ta",),
    "telugu": ("te",),
    "bengali": ("bn",),
    "gujarati": ("gu",),
    "kannada": ("kn",),
    "malayalam": ("ml",),
    "gurmukhi": ("pa",),
}
_LATIN = tuple(sorted({*KNOWN} - {code for codes in _BY_SCRIPT.values() for code in codes} | {"sr"}))

_ENGLISH = re.compile(r"\b(?:the|of|and|to|that|for|with|this|from|which|are|by|have|be|or|your|you)\b", re.IGNORECASE)
_PARTS, _PART, _SAMPLE = 5, 1200, 400
_SURE = 0.9
_SHARE = 0.25
"""Of its parts, in which a language must be to be one of the document's."""


def languages_of(text: str) -> tuple[str, ...]:
    """The languages of a document, the most used one first; English when there is nothing to tell from.

    Looks at up to five parts of 1,200 characters; about 3 ms.

    Raises: MissingExtra: the classifier is needed and not installed.
    """
    step = max(_PART, len(text) // _PARTS)
    parts = [text[start : start + _PART] for start in range(0, len(text), step)][:_PARTS]
    # The end of a document is often a line of names or numbers.
    parts = [part for part in parts if len(part) >= _PART // 4] or parts[:1]
    told = Counter(code for part in parts if (code := _language(part, KNOWN)) is not None)
    if not told:
        return ("en",)
    enough = _SHARE * sum(told.values())
    return tuple(code for code, count in told.most_common() if count >= enough)


def asked_in(question: str, held: Collection[str]) -> tuple[str, ...]:
    """In which of the languages `held` by the documents that the asker may read a question is to be read.

    One that is in none of them (an English question about German contracts) is read in all of them: names and
    numbers are the same everywhere.
    """
    if len(held) <= 1:
        return tuple(held) or ("en",)
    script = _script(question)
    fitting = [code for code in held if script in _scripts_of(code)]
    if len(fitting) <= 1:
        return tuple(fitting or sorted(held))
    return (_classified(question, tuple(sorted(fitting)))[0],)


def _language(text: str, among: Collection[str]) -> str | None:
    script = _script(text)
    if script is None:
        return None
    codes = tuple(code for code in _codes_of(script) if code in among)
    if not codes:
        return None
    if script == "han":
        # Japanese is never without kana for long.
        return "ja" if len(_SCRIPTS["kana"].findall(text[:_SAMPLE])) > 3 else "zh"
    if len(codes) == 1:
        return codes[0]
    if script == "latin" and _is_plainly_english(text):
        return "en"
    code, share = _classified(text, codes)
    return code if share >= _SURE else None


def _codes_of(script: str) -> tuple[str, ...]:
    return _LATIN if script == "latin" else _BY_SCRIPT[script]


def _scripts_of(code: str) -> frozenset[str]:
    found = {script for script, codes in _BY_SCRIPT.items() if code in codes}
    return frozenset(found | {"latin"} if code in _LATIN else found)


def _script(text: str) -> str | None:
    """The script of most letters; a Han character counts for three, as it says as much."""
    if text.isascii():
        return "latin" if _SCRIPTS["latin"].search(text) else None
    sample = text[:_SAMPLE]
    counts = {name: found for name, pattern in _SCRIPTS.items() if (found := len(pattern.findall(sample)))}
    if not counts:
        return None
    for name in ("han", "kana", "hangul"):
        if name in counts:
            counts[name] *= 3
    best = max(counts, key=lambda name: counts[name])
    return "kana" if best == "han" and counts.get("kana", 0) * 4 > counts["han"] else best


def _is_plainly_english(text: str) -> bool:
    """Spares most readers the classifier, which takes 100 MB of memory."""
    words = text.count(" ") + 1
    return words >= 20 and len(_ENGLISH.findall(text)) >= 0.12 * words


def _classified(text: str, codes: tuple[str, ...]) -> tuple[str, float]:
    """A code, and its probability among them."""
    return _classifier().classify(text, codes)


@lru_cache(maxsize=1)
def _classifier() -> _Classifier:
    return _Classifier()


class _Classifier:
    """The model, for one set of languages at a time."""

    def __init__(self) -> None:
        try:
            from py3langid.langid import MODEL_FILE, LanguageIdentifier
        except ModuleNotFoundError as error:
            raise MissingExtra(
                "telling languages apart needs the library 'py3langid'", hint="pip install 'interlock[knowledge]'"
            ) from error
        self._model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        self._codes: tuple[str, ...] = ()
        self._lock = threading.Lock()

    def classify(self, text: str, codes: tuple[str, ...]) -> tuple[str, float]:
        """See `_classified`."""
        with self._lock:
            if codes != self._codes:
                self._model.set_languages(list(codes))
                self._codes = codes
            code, probability = self._model.classify(text)
        return str(code), float(probability)
