"""The claims of an answer, and what they may rest on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from interlock.evals.metrics._words import encodable
from interlock.evals.ports import CheckClaim
from interlock.evals.types import Case, Output

__all__ = ["Against", "Checked", "check_claims", "claims", "grounds", "sentences"]

Against = Literal["all", "context", "found", "citations"]
_MARKERS = re.compile(r"\s*\[\d+(?:\s*,\s*\d+)*\]")
_BULLET = re.compile(r"^\s*(?:[-*+•‣◦]|\(?\d{1,3}[.)]|#{1,6}|>)\s+")
_BREAK = re.compile(r"(?:(?<=[.!?…])|(?<=[.!?…][\"'”’»)]))\s+(?=[^\sa-zà-ÿ])|(?<=[。！？])")
_ABBREVIATED = re.compile(
    r"(?:\b(?:approx|art|ca|cf|co|dept|dr|e\.g|eg|etc|fig|i\.e|inc|jr|ltd|mr|mrs|ms|no|nr|p|pp|prof|sec|st|u\.s|vol|vs|"
    r"z\.b|d\.h|bzw|usw|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)|\b[A-ZÄÖÜ]|^\d{1,3})\.$",
    re.IGNORECASE,
)


class Checked(NamedTuple):
    """How many claims hold."""

    supported: int
    total: int


def sentences(text: str) -> list[str]:
    """Sentences without citation marks and bullets; a line ends one too. Lines without a word are left out."""
    found: list[str] = []
    for line in encodable(text).splitlines():
        pieces: list[str] = []
        for piece in _BREAK.split(_BULLET.sub("", _MARKERS.sub("", line)).strip()):
            if pieces and _ABBREVIATED.search(pieces[-1]):
                pieces[-1] = f"{pieces[-1]} {piece}"
            elif piece.strip():
                pieces.append(piece.strip())
        found.extend(each for each in pieces if any(map(str.isalnum, each)))
    return found


def claims(text: str) -> list[str]:
    """Sentences that state something: all but questions."""
    return [each for each in sentences(text) if not each.endswith(("?", "？"))]


def grounds(case: Case, output: Output, against: Against) -> list[str]:
    """The texts that claims are held against."""
    context = [*case.context] if against in {"all", "context"} else []
    found = [each.text for each in output.found] if against in {"all", "found"} else []
    quotes = [each.quote for each in output.citations] if against == "citations" else []
    return [encodable(text) for text in (*context, *found, *quotes) if text.strip()]


async def check_claims(check: CheckClaim, stated: Sequence[str], texts: Sequence[str]) -> Checked:
    """Ask for each."""
    supported = 0
    for claim in stated:
        supported += (await check(claim, texts)).supported
    return Checked(supported, len(stated))
