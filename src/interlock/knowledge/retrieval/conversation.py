"""A follow-up question as one that can be searched alone."""

from __future__ import annotations

import re
from collections.abc import Sequence

from interlock.knowledge.retrieval.types import Turn

__all__ = ["SYSTEM", "asked_of_model", "is_follow_up", "standalone"]

_FOLLOW_UP = re.compile(
    r"^(and|but|so|then|also|what about|how about|why|it|its|they|their|that|this|those|these|he|she)\b", re.IGNORECASE
)
_SHORT = 4
"""Words up to which a question is read together with the one before it."""
_TURNS = 6
_CHARACTERS = 1500
"""Of each of the last turns that a model reads."""

SYSTEM = (
    "Rewrite the last question so that it can be understood without the conversation: put names in place of pronouns "
    "and add what it leaves out. Keep its language. Do not answer it. Give the question alone, in one line."
)


def is_follow_up(question: str, earlier: Sequence[str]) -> bool:
    """Whether a question leans on the one before it ("and in Germany?")."""
    return bool(earlier) and bool(_FOLLOW_UP.match(question) or len(question.split()) <= _SHORT)


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
