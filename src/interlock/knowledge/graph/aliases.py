"""One key for all names of a thing."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping

__all__ = ["key_of", "resolved"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LEADING = _words(
    """
    the a an our your their its this that these those mr mrs ms dr prof der die das den dem ein eine le la les l un une
    el los las il lo gli de het
    """
)
_POSSESSIVE = re.compile(r"['’]s?$")


def key_of(name: str) -> str:
    """The name without case, white space, hyphens, determiners, titles and possessives.

    >>> key_of("The Billing-Service's"), key_of("Dr. Marta  Olin"), key_of("THE")
    ('billing service', 'marta olin', 'the')
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    words = [word for word in re.split(r"[\s\-‐‑–]+", _POSSESSIVE.sub("", folded.strip())) if word]
    while len(words) > 1 and words[0].rstrip(".") in _LEADING:
        words.pop(0)
    return " ".join(words)


def resolved(pairs: Iterable[Iterable[tuple[str, str]]]) -> Mapping[str, str]:
    """What each name is short for, over many texts; the order of the texts does not matter.

    Args:
        pairs: of every text, keys of short forms with what they stand for there.

    Returns: key to the key it is known by. A short form that texts explain differently is known by what most of them
        say, by the alphabet when they are even.
    """
    readings: dict[str, Counter[str]] = {}
    for text in pairs:
        for short, long in set(text):
            readings.setdefault(short, Counter())[long] += 1
    chosen = {
        short: min(found, key=lambda long, found=found: (-found[long], long))  # type: ignore[misc]
        for short, found in readings.items()
    }
    final: dict[str, str] = {}
    for short in chosen:
        seen = {short}
        at = short
        while at in chosen and chosen[at] not in seen:
            at = chosen[at]
            seen.add(at)
        if at in chosen:
            # Texts that explain in a ring: the longest of it, whatever was read first.
            ring, here = [at], chosen[at]
            while here != at:
                ring.append(here)
                here = chosen[here]
            at = max(ring, key=lambda key: (len(key), key))
        if at != short:
            final[short] = at
    return final
