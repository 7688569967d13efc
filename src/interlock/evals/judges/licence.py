"""A judge's licence to gate: how far it agreed with people, on which labels, when. Without a valid one it may measure,
and decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from interlock.core.errors import InvalidInput
from interlock.evals.judges.spec import JudgeKind
from interlock.stats.intervals import Interval

__all__ = ["Licence", "find_licence", "read_licences", "why_not", "write_licence"]

LEAST_KAPPA = 0.4
"""The lower end of kappa's interval: moderate agreement (Landis and Koch, Biometrics 33, 1977) is what may decide."""
LEAST_SWAP = 0.8
MOST_LENGTH_BIAS = 0.15
LEAST_LABELS = 50
DAYS = 180.0


class Licence(msgspec.Struct, frozen=True, kw_only=True):
    """One calibration."""

    version: int = 1
    judge: str
    identity: str
    """Digest of everything that decides its verdicts: another model, criteria or scale is another judge."""
    kind: JudgeKind
    models: tuple[str, ...]
    labels: str
    """Digest of the human labels."""
    label_file: str
    count: int
    """Labels that were judged."""
    unreadable: int
    """Of them: the judge did not answer in the form asked for. They count as disagreement."""
    agreement: float
    agreement_interval: Interval
    kappa: float
    kappa_interval: Interval
    """95 %, bootstrap over questions."""
    swap_consistency: float | None
    """Pairwise: share of the questions on which both orders had the same winner."""
    repeat_consistency: float | None
    """Others: share of the answers that were judged alike when asked again."""
    length_bias: float | None
    """Pairwise: how much oftener than people it prefers the longer answer; else the correlation of length with its
    points less people's, by rank."""
    floor: float | None
    """Agreement of "the longer answer wins" on the same labels: a judge has to beat it."""
    cost_nano: int
    at: datetime


def why_not(licence: Licence | None, identity: str, *, at: datetime) -> str:
    """Why a judge may not gate; empty when it may."""
    if licence is None:
        return "it was never calibrated against people"
    if licence.identity != identity:
        return "its model, criteria or scale have changed since it was calibrated"
    if at - licence.at > timedelta(days=DAYS):
        return f"its calibration is older than {DAYS:g} days"
    if licence.count < LEAST_LABELS:
        return f"it was calibrated on {licence.count} labels, fewer than {LEAST_LABELS}"
    if licence.kappa_interval.low < LEAST_KAPPA:
        return (
            f"its agreement with people is kappa {licence.kappa:.2f}, and only above {licence.kappa_interval.low:.2f} "
            f"for sure; {LEAST_KAPPA:g} is asked for"
        )
    if licence.swap_consistency is not None and licence.swap_consistency < LEAST_SWAP:
        return f"it keeps its verdict in {licence.swap_consistency:.0%} of the pairs when they are swapped"
    if licence.length_bias is not None and abs(licence.length_bias) > MOST_LENGTH_BIAS:
        return f"it prefers longer answers more than people do, by {licence.length_bias:+.2f}"
    if licence.floor is not None and licence.agreement_interval.low <= licence.floor:
        return f"it is not shown to beat 'the longer answer wins' ({licence.floor:.0%})"
    return ""


def write_licence(folder: Path, licence: Licence) -> Path:
    """Write it beside the judges of a folder: ``NAME.licence.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{licence.judge}.licence.json"
    draft = place.with_suffix(".draft")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(licence), indent=2) + b"\n")
    draft.replace(place)
    return place


def read_licences(folders: Iterable[Path]) -> list[Licence]:
    """All licences of these folders. Raises: InvalidInput: one cannot be read."""
    found = []
    for folder in folders:
        for place in sorted(folder.glob("*.licence.json")):
            try:
                found.append(msgspec.json.decode(place.read_bytes(), type=Licence))
            except (OSError, msgspec.DecodeError) as error:
                raise InvalidInput(
                    f"the licence {place.name!r} cannot be read", param="judge", hint="interlock judge calibrate"
                ) from error
    return found


def find_licence(licences: Iterable[Licence], *, identity: str, judge: str) -> Licence | None:
    """The one of exactly this judge, else the newest under its name, which tells what has changed."""
    known = sorted(licences, key=lambda each: each.at, reverse=True)
    exact = [each for each in known if each.identity == identity]
    named = [each for each in known if each.judge == judge]
    return next(iter(exact or named), None)
