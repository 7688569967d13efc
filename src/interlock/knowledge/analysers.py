"""Text to terms for the lexical leg. The same function reads passages and questions.

Unicode-folded words, stemmed by the language they are in, English ones without stop words; words of every other
language also as runs of four letters, which finds what a stemmer misses and the parts of compounds (XQuAD German: .939
with the stemmer, .967 with both; Arabic .937, .953). Identifiers and codes whole *and* split (``maxRetry_count`` gives
``maxretrycount``, ``max``, ``retri``, ``count``); numbers kept; scripts written without spaces as bigrams. Every term
is letters and digits only, so that no index tokeniser splits it again.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from interlock.knowledge.languages import STEMMERS

if TYPE_CHECKING:
    from snowballstemmer.basestemmer import BaseStemmer

__all__ = ["STOP", "VERSION", "analyse"]

VERSION = "analyser/2"
"""Changes when the same text would give other terms: stored terms and questions must agree."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STOP = _words(
    """
    a about after again all also am an and any are as at be because been before being both but by can could
    did do does doing down during each few for from further had has have having he her here hers him his how i
    if in into is it its itself just me more most my no nor not of off on once only or other our ours out over
    own same she should so some such than that the their theirs them then there these they this those through
    to too under until up very was we were what when where which while who whom why will with would you your
    yours
    """
)
"""English words that searching by words leaves out."""

UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_TOKEN = re.compile(rf"[{UNSPACED}]+|[^\W{UNSPACED}]+(?:[-._/'’:@&+][^\W{UNSPACED}]+)*[+#]*")
_PARTS = re.compile(r"[^\W_]+")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_UNSPACED_RUN = re.compile(rf"[{UNSPACED}]+")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_MAX_TERM = 64
_RUN = 4
"""Letters of a run. Of 3, 4 and 5 the best for German and Arabic beside a stemmer."""
_MARK = "xq"
"""Before a run, so that it is no word: `wort` within `antworten` is worth less than the word."""

_stemmer_lock = threading.Lock()  # a Snowball stemmer keeps its word in itself between calls


@lru_cache(maxsize=len(STEMMERS))
def _stemmer(language: str) -> BaseStemmer:
    from snowballstemmer import stemmer

    return stemmer(STEMMERS[language])


@lru_cache(maxsize=200_000)
def _stem(word: str, language: str) -> str:
    with _stemmer_lock:
        return str(_stemmer(language).stemWord(word))


def analyse(text: str, languages: Sequence[str] = ("en",)) -> list[str]:
    """Terms of `text` in order, with repeats. A text of stop words alone keeps them.

    Args:
        languages: ISO 639-1 codes of what it is written in; of several, every word is read in each.

    >>> analyse("The maxRetry limits of gpt-4o")
    ['maxretry', 'max', 'retri', 'limit', 'gpt4o', 'gpt', '4o']
    """
    folded = _THOUSANDS.sub("", unicodedata.normalize("NFKC", text))
    terms: list[str] = []
    stopped: list[str] = []
    for match in _TOKEN.finditer(folded):
        token = match.group()
        if _UNSPACED_RUN.fullmatch(token):
            terms.extend(_bigrams(token))
        else:
            _add_word(token, languages, terms, stopped)
    return terms or stopped


def _bigrams(run: str) -> list[str]:
    # The ranges of these scripts hold punctuation and vowel marks too; both sides of the index drop them alike.
    run = "".join(c for c in run if c.isalnum())
    if not run:
        return []
    return [run] if len(run) == 1 else [run[i : i + 2] for i in range(len(run) - 1)]


def _add_word(token: str, languages: Sequence[str], terms: list[str], stopped: list[str]) -> None:
    parts = [part for part in _PARTS.findall(token) if part]
    if parts and parts[-1] in {"s", "t", "re", "ve", "ll", "d", "m"} and re.search(r"['’]", token):
        parts = parts[:-1]  # it's, don't, we're
        token = re.split(r"['’](?=[^'’]*$)", token)[0]
    pieces = [piece for part in parts for piece in _camel(part)]
    if len(pieces) == 1 and len(parts) == 1 and token[-1:] not in "+#":
        _add_plain(pieces[0], languages, terms, stopped)
        return
    whole = _whole(token)
    if whole:
        terms.append(whole)
    for part in parts:
        split = _camel(part)
        if len(split) > 1 and len(parts) > 1:
            terms.append(_fold(part)[:_MAX_TERM])
        for piece in split:
            if len(piece) > 1:  # "h" and "4" of "H4" would match everything
                _add_plain(piece, languages, terms, stopped)


def _add_plain(word: str, languages: Sequence[str], terms: list[str], stopped: list[str]) -> None:
    term = _fold(word)[:_MAX_TERM]
    if not term:
        return
    if languages == ("en",):
        if term in STOP:
            stopped.append(term)
        else:
            terms.append(_stem(term, "en") if term.isalpha() else term)
        return
    terms.extend(_read(word.casefold(), term, tuple(languages)))


@lru_cache(maxsize=200_000)
def _read(word: str, folded: str, languages: tuple[str, ...]) -> tuple[str, ...]:
    """One word as its languages have it, each form once."""
    if not folded.isalpha():
        return (folded,)
    forms: dict[str, None] = {}
    for language in languages:
        if language == "en":
            if folded not in STOP:
                forms[_stem(folded, "en")] = None
        elif language in STEMMERS:
            forms[_fold(_stem(word, language))[:_MAX_TERM] or folded] = None
        else:
            forms[folded] = None
    for start in range(max(1, len(folded) - _RUN + 1)):
        forms[_MARK + folded[start : start + _RUN]] = None
    return tuple(forms)


def _camel(part: str) -> list[str]:
    return (_CAMEL.findall(part) or [part]) if part.isascii() else [part]


def _whole(token: str) -> str:
    """The identifier as one term: ``3.2.1`` is ``3p2p1`` (not 321), ``C++`` is ``cplusplus``."""
    text = re.sub(r"(?<=\d)[.](?=\d)", "p", token)
    text = text.replace("+", "plus").replace("#", "sharp")
    return _fold("".join(_PARTS.findall(text)))[:_MAX_TERM]


def _fold(word: str) -> str:
    lowered = word.casefold()
    if lowered.isascii():
        return lowered
    decomposed = unicodedata.normalize("NFKD", lowered)
    return "".join(c for c in decomposed if c.isalnum())
