"""Golden sets: read, judge, sum up. Pure: no model, no store."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pydantic import ValidationError

from interlock.core.answers import Answer
from interlock.core.errors import InvalidInput, NotFound
from interlock.evals.golden.types import Case, CaseOutcome, Gold, Judgement, Rate
from interlock.stats.intervals import clopper_pearson, wilson

__all__ = ["judge", "percentile", "rates", "read_golden"]

_MIN_OVERLAP = 0.5
"""Share of the shorter text that must be common for two quotes to overlap."""


def read_golden(path: Path) -> list[Case]:
    """Cases of a JSONL file. Raises: NotFound; InvalidInput naming line and field."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise NotFound(f"there is no golden set {path.name!r}", param="golden") from error
    cases = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            cases.append(Case.model_validate(json.loads(line)))
        except (ValueError, ValidationError) as error:
            raise InvalidInput(f"line {number} of {path.name!r} is wrong: {error}", param=f"line {number}") from error
    return cases


def judge(case: Case, answer: Answer, *, forbidden: Callable[[str], bool]) -> Judgement:
    """Compare an answer with its case.

    Args:
        forbidden: whether this user may not read a source (path as in citations).
    """
    found: dict[tuple[str, int], bool] = {}
    for number, gold in enumerate(case.gold):
        place = ("alone", number) if gold.place is None else ("place", gold.place)
        found[place] = found.get(place, False) or _overlaps(gold, answer)
    text = _plain(answer.text)
    shown = {citation.source for citation in answer.citations} | {passage.source for passage in answer.passages}
    return Judgement(
        declined=answer.outcome == "declined",
        cited_any=any(found.values()),
        cited_all=bool(found) and all(found.values()),
        facts=all(any(_plain(wording) in text for wording in wordings) for wordings in case.facts),
        leaked=any(forbidden(source) for source in shown),
    )


def _overlaps(gold: Gold, answer: Answer) -> bool:
    wanted = _plain(gold.quote)
    for citation in answer.citations:
        if citation.source != gold.document:
            continue
        quote = _plain(citation.quote)
        common = difflib.SequenceMatcher(None, wanted, quote, autojunk=False).find_longest_match()
        if common.size >= _MIN_OVERLAP * min(len(wanted), len(quote)):
            return True
    return False


def _plain(text: str) -> str:
    """Lower case, one space between words, table bars and thousands commas dropped: formats differ in these alone."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text.replace("|", " ").replace("\u2019", "'"))
    return " ".join(text.split()).casefold()


def rates(outcomes: Iterable[CaseOutcome]) -> list[Rate]:
    """Every rate of a run with its interval: Wilson's, and the exact one for leaks."""
    done = list(outcomes)
    answerable = [o for o in done if o.case.answerable]
    unanswerable = [o for o in done if o.case.kind == "unanswerable"]
    restricted = [o for o in done if o.case.kind == "restricted"]
    double = [o for o in done if o.case.kind == "double"]
    generated = [o for o in answerable if _outcome(o) in {"generated", "repaired"}]
    table: list[Rate | None] = [
        _rate("gold passage cited, of answerable", [o.judgement.cited_any for o in answerable]),
        _rate("both gold passages cited, of two-place", [o.judgement.cited_all for o in double]),
        _rate(
            "all facts in the answer, of answerable",
            [o.judgement.facts and not o.judgement.declined for o in answerable],
        ),
        _rate("declined, of unanswerable", [o.judgement.declined for o in unanswerable]),
        _rate("declined, of restricted", [o.judgement.declined for o in restricted]),
        _rate("leaks, of all", [o.judgement.leaked for o in done], exact=True),
        _rate("generated and supported, of answerable", [o in generated for o in answerable]),
        _rate(
            "generated with gold cited, of answerable", [o in generated and o.judgement.cited_any for o in answerable]
        ),
        *(
            _rate(f"{kind}, of answerable", [_outcome(o) == kind for o in answerable])
            for kind in ("generated", "repaired", "extracted", "declined")
        ),
        _rate("failed, of all", [bool(o.error) for o in done], exact=True),
    ]
    return [rate for rate in table if rate is not None]


def _outcome(outcome: CaseOutcome) -> str:
    return outcome.answer.outcome if outcome.answer is not None else "failed"


def _rate(name: str, hits: Sequence[bool], *, exact: bool = False) -> Rate | None:
    if not hits:
        return None
    interval = clopper_pearson if exact else wilson
    return Rate(name, sum(hits), len(hits), interval(sum(hits), len(hits)))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1] of `values` do not exceed. Raises: ValueError when empty."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, -(-int(len(ordered) * share * 1_000_000) // 1_000_000) - 1)]
