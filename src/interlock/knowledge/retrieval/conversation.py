"""A follow-up question as one that can be searched alone."""

from __future__ import annotations

import re
from collections.abc import Sequence

from interlock.knowledge.retrieval.types import Turn

__all__ = ["SYSTEM", "asked_of_model", "is_follow_up", "standalone"]

# What leans on the question before it. Of other languages than English only words that begin a sentence with no other
# meaning: a German "das" is an article more often than not. A word of one language that begins questions of another
# counts only before what follows it there: "en" is "and" in Dutch, and "in" in French and Spanish.
_FOLLOW_UP = re.compile(
    r"""[\s¿¡«"'(]*(?:(?P<word>
    and|but|so|then|also|what\ about|how\ about|why|it|its|they|their|that|this|those|these|he|she
    |und|aber|dann|was\ ist\ mit|wie\ ist\ es|wie\ steht\ es
    |et|mais(?!\ (?:de|do|da|que)\ )|alors|donc|qu['’]en\ est-il
    |y|pero|entonces|qué\ pasa\ con|e|ma|allora|mas|então
    |en(?=\ (?:als|bij|daarna|dan|dat|de|deze|die|dit|een|geldt|het|hoe|hoeveel|in|is|kan|mag|met|moet|na|niet|nu|om|ook
        |op|tot|van|voor|waar|waarom|wanneer|wat|welke?|wie|wordt|zonder)\b)
    |maar|dan|och|og|hoe\ zit\ het
    |men(?=\ (?:att|da|de|den|der|det|du|där|for|för|gäller|gjelder|gælder|hur|hva|hvad|hvem|hvis|hvor|hvordan|i|ikke
        |inte|jag|jeg|kan|må|måste|nar|når|när|om|på|skal|ska|så|vad|vi|vilk\w+|är|er)\b)
    |а|и|но|тогда|ale
    |وماذا|ولكن|وهل|وكم|وكيف
    )\b(?!-)|那(?!不勒|波里|曲|霸)|它|他们|她|这|還有|还有|但(?!丁)|それ|その(?!他)|では|じゃあ|でも(?!どり)|และ|แล้ว|แต่)""",
    re.IGNORECASE | re.VERBOSE,
)
_SHORT = 4
"""Words up to which a question is read together with the one before it."""
_SYLLABIC = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_ALPHABETIC = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
_SIGNS = re.compile(f"{_SYLLABIC.pattern}|{_ALPHABETIC.pattern}")
"""Scripts written without spaces: two characters a word in Han and Kana, four in Thai and its neighbours."""
_TURNS = 6
_CHARACTERS = 1500
"""Of each of the last turns that a model reads."""

SYSTEM = (
    "Rewrite the last question so that it can be understood without the conversation: put names in place of pronouns "
    "and add what it leaves out. Keep its language. Do not answer it. Give the question alone, in one line."
)


def is_follow_up(question: str, earlier: Sequence[str]) -> bool:
    """Whether a question leans on the one before it ("and in Germany?")."""
    return bool(earlier) and (_leans(question) or _words(question) <= _SHORT)


def _leans(question: str) -> bool:
    found = _FOLLOW_UP.match(question)
    if found is None:
        return False
    word = found["word"] or ""
    # IT, EN and HE are names of things where the rest is not in capitals too.
    return not (len(word) > 1 and word.isupper()) or question.isupper()


def _words(question: str) -> float:
    spaced = len(_SIGNS.sub(" ", question).split())
    unspaced = len(_SYLLABIC.findall(question)) / 2 + len(_ALPHABETIC.findall(question)) / 4
    return unspaced or spaced


def standalone(question: str, earlier: Sequence[str]) -> str:
    """The search query of a question, without a model: a follow-up is searched together with what it follows.

    Args:
        earlier: the user's questions before, oldest first.
    """
    return f"{earlier[-1]} {question}" if is_follow_up(question, earlier) else question


def asked_of_model(question: str, history: Sequence[Turn]) -> str:
    """The conversation as a model reads it."""
    turns = [f"{turn.role}: {' '.join(turn.text.split())[:_CHARACTERS]}" for turn in history[-_TURNS:]]
    return "\n".join(["Conversation:", *turns, "", f"Last question: {question}"])
