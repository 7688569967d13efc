"""Words between two names that say what the one is to the other."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Phrase", "between", "introduced"]


class Phrase(NamedTuple):
    """A relation in words."""

    kind: str
    is_reversed: bool
    """The second name is what the relation starts from."""


_FORWARD = {
    "reports to": r"reports? to|reported to|answers? to",
    "replaces": r"replaces?|replaced|supersedes?|superseded|succeeds?|succeeded",
    "part of": r"(?:is|are|was|were) (?:a )?part of|belong(?:s|ed)? to|(?:is|are) a (?:member|subsidiary|division) of",
    "owns": r"owns?|owned",
    "leads": r"leads?|led|heads?|headed|manages?|managed|runs?|directs?|directed|chairs?|chaired",
    "maintains": r"maintains?|maintained|operates?|operated|supports?",
    "depends on": r"depends? on|relies on|rely on|requires?|needs?|builds? on|(?:is|are) built on",
    "uses": r"uses?|used|calls?|connects? to|reads? from|writes? to|runs? on|(?:is|are) hosted (?:on|by|in)",
    "located in": r"(?:(?:is|was|are) )?(?:located|based|headquartered|situated) (?:in|at)|(?:sits|lies) in|moved to",
    "works for": r"works? (?:for|at|in)|worked (?:for|at|in)|joined|(?:is|was) employed (?:by|at)",
    "founded": r"founded|created|established|started",
    "acquired": r"acquired|acquires?|bought|took over|merged with",
    "provides": r"provides?|provided|supplies|supplied|makes?|made|produces?|sells?|sold|publishes|published",
    "approves": r"approves?|approved|signs? off|authori[sz]es?",
    "is a": r"(?:is|was|are|were) (?:a|an) (?:kind|type|form|version) of",
    "contains": r"contains?|includes?|consists of|comprises",
    "called": r"(?:is|was|are) (?:also )?(?:called|known as|named)|stands for|means|refers to",
}
_PASSIVE = {
    "replaces": r"(?:is|was|are|were|has been|have been) (?:replaced|superseded|succeeded) by",
    "owns": r"(?:is|was|are|were) (?:fully |wholly )?owned by",
    "leads": r"(?:is|was|are|were) (?:led|headed|managed|run|directed|chaired) by",
    "maintains": r"(?:is|was|are|were) (?:maintained|operated|supported|looked after) by",
    "uses": r"(?:is|was|are|were) (?:used|called) by",
    "founded": r"(?:is|was|were) (?:founded|created|established|started) by",
    "acquired": r"(?:is|was|were|has been) (?:acquired|bought|taken over) by",
    "provides": r"(?:is|was|are|were) (?:provided|supplied|made|produced|sold|published|written) by",
    "approves": r"(?:is|was|are|were|must be) (?:approved|signed off|authori[sz]ed) by",
}
_BEFORE = (
    r"^\)?,?\s+(?:(?:who|which|that)\s+)?(?:(?:now|also|currently|still|directly|later|since|will|has|had)\s+){0,2}"
)
_AFTER = (
    r"\s+(?:(?:the|a|an|its|our|their|both)\s+)?"
    r"(?:(?!(?:on|in|by|to|from|for|of|at|with|and|or|but|than|not)\s)[a-z]+\s+){0,2}[(\"“`*]*$"
)
_PATTERNS = [
    (re.compile(f"{_BEFORE}(?:{words}){_AFTER}"), Phrase(kind, is_reversed))
    for table, is_reversed in ((_PASSIVE, True), (_FORWARD, False))
    for kind, words in table.items()
]
_ROLE_OF = re.compile(
    r"^(?:\)?,?\s+(?:is|was|are|became|serves as|acts as)|\)?,)\s+(?:(?:the|an?|its)\s+)?((?:[a-z-]+\s){0,3}[a-z-]+)\s+"
    r"(?:of|for|at)\s+(?:the\s+)?[(\"“`*]*$"
)
_OWN_ROLE = re.compile(r"^['’]s\s+((?:[a-z-]+\s){0,3}[a-z-]+)\s+(?:is|was|are)\s+(?:the\s+)?[(\"“`*]*$")
_ROLE_IS = re.compile(r"^\)?\s+(?:is|was|are)\s+(?:the\s+)?[(\"“`*]*$")
_ROLE_BEFORE = re.compile(r"(?:^|\W)[Tt]he\s+((?:[a-z-]+\s){0,3}[a-z-]+)\s+(?:of|for|at)\s+(?:the\s+)?$")


def between(text: str) -> Phrase | None:
    """What the text between two names says, if it is one of the phrases known here.

    >>> between(" is replaced by the ")
    Phrase(kind='replaces', is_reversed=True)
    >>> between(" is the head of ")
    Phrase(kind='head of', is_reversed=False)
    """
    if not 1 < len(text) <= 80 or "\n\n" in text:
        return None
    flat = re.sub(r"\s+", " ", text)
    for pattern, phrase in _PATTERNS:
        if pattern.match(flat):
            return phrase
    role = _ROLE_OF.match(flat)
    if role is not None and not role.group(1).startswith(("part", "because", "instead", "out", "not ", "as ")):
        return Phrase(f"{role.group(1).removeprefix('the ')} of", is_reversed=False)
    own = _OWN_ROLE.match(flat)
    return Phrase(f"{own.group(1)} of", is_reversed=True) if own is not None else None


def introduced(before: str, middle: str) -> Phrase | None:
    """``the owner of`` NAME ``is`` NAME.

    >>> introduced("In short, the owner of ", " is ")
    Phrase(kind='owner of', is_reversed=True)
    """
    if _ROLE_IS.match(re.sub(r"\s+", " ", middle)) is None:
        return None
    role = _ROLE_BEFORE.search(re.sub(r"\s+", " ", before[-80:]))
    return Phrase(f"{role.group(1)} of", is_reversed=True) if role is not None else None
