"""Text brought to one form before it is compared."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["encodable", "normalised", "plain"]

_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalised(text: str) -> str:
    """Lower case without punctuation, English articles and superfluous spaces, as in SQuAD's evaluation script.

    >>> normalised("The  Answer: 42!")
    'answer 42'
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(c for c in folded if not unicodedata.category(c).startswith("P"))
    return " ".join(_ARTICLES.sub(" ", kept).split())


def plain(text: str) -> str:
    """Case, spaces, table bars and thousands commas brought to one form: formats differ in these alone."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text.replace("|", " ").replace("\u2019", "'"))
    return " ".join(text.split()).casefold()


def encodable(text: str) -> str:
    """Without halves of surrogate pairs, which JSON's escapes can leave in a text and no model can read."""
    return text.encode("utf-8", "replace").decode("utf-8")
