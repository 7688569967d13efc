"""How far the people of a queue agree: over all, label by label, rater by rater."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from interlock.evals.review.types import QueueSpec, Reviewed
from interlock.stats.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha

__all__ = ["Agreement", "PairOfRaters", "RaterSummary", "agreement_of"]


@dataclass(frozen=True, slots=True)
class RaterSummary:
    """One person."""

    rater: str
    labels: int
    with_final: float | None
    """Share of their labels that say what holds in the end, over items that several saw."""
    gold: float | None
    """Share of the items with a known label that they got right."""
    gold_seen: int
    median_seconds: float | None


@dataclass(frozen=True, slots=True)
class PairOfRaters:
    """Two people on the items that both saw."""

    first: str
    second: str
    items: int
    agreement: float
    kappa: float
    """Cohen's; with quadratic weights where labels are ordered."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """A queue."""

    items: int
    open: int
    disputed: int
    several: int
    """Items that two people or more have labelled."""
    alpha: float | None
    """Krippendorff's, ordinal where labels are ordered; None without an item that several saw."""
    by_label: dict[str, float]
    """Krippendorff's alpha of each label against all others: which of them people mean differently."""
    fleiss: float | None
    """Over items that equally many people saw, the commonest number of them."""
    pairs: tuple[PairOfRaters, ...]
    raters: tuple[RaterSummary, ...]


def agreement_of(spec: QueueSpec, items: Sequence[Reviewed]) -> Agreement:
    """Sum up a queue."""
    several = [item for item in items if len(item.labels) > 1]
    place = {label: float(at) for at, label in enumerate(spec.choices)}
    ordered = spec.ordered and not spec.pairwise
    values = [[place[each.label] for each in item.labels if each.label in place] for item in several]
    values = [row for row in values if len(row) > 1]
    return Agreement(
        items=len(items),
        open=sum(item.state == "open" for item in items),
        disputed=sum(item.state == "disputed" for item in items),
        several=len(several),
        alpha=krippendorff_alpha(values, "ordinal" if ordered else "nominal") if values else None,
        by_label=_by_label(place, values),
        fleiss=_fleiss(several),
        pairs=tuple(_pairs(spec, several, ordered=ordered)),
        raters=tuple(_rater(name, items) for name in sorted({each.rater for item in items for each in item.labels})),
    )


def _by_label(place: dict[str, float], values: Sequence[Sequence[float]]) -> dict[str, float]:
    used = {value for row in values for value in row}
    return {
        label: krippendorff_alpha([[float(value == at) for value in row] for row in values])
        for label, at in place.items()
        if at in used
    }


def _fleiss(several: Sequence[Reviewed]) -> float | None:
    sizes = Counter(len(item.labels) for item in several)
    if not sizes:
        return None
    size, _ = sizes.most_common(1)[0]
    return fleiss_kappa([Counter(each.label for each in item.labels) for item in several if len(item.labels) == size])


def _pairs(spec: QueueSpec, several: Sequence[Reviewed], *, ordered: bool) -> list[PairOfRaters]:
    said: dict[str, dict[str, str]] = {}
    for item in several:
        for each in item.labels:
            said.setdefault(each.rater, {})[each.item] = each.label
    names = sorted(said)
    found = []
    for at, first in enumerate(names):
        for second in names[at + 1 :]:
            both = sorted(said[first].keys() & said[second].keys())
            if not both:
                continue
            ours, theirs = [said[first][item] for item in both], [said[second][item] for item in both]
            kappa = (
                cohen_kappa(ours, theirs, order=spec.choices, weights="quadratic")
                if ordered and {*ours, *theirs} <= set(spec.choices)
                else cohen_kappa(ours, theirs)
            )
            same = sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(both)
            found.append(PairOfRaters(first, second, len(both), same, kappa))
    return found


def _rater(name: str, items: Sequence[Reviewed]) -> RaterSummary:
    own = [(item, each) for item in items for each in item.labels if each.rater == name]
    seen = [
        (item, each) for item, each in own if item.final is not None and len(item.labels) > 1 and not item.item.gold
    ]
    gold = [each.label == item.item.gold for item, each in own if item.item.gold is not None]
    seconds = [each.seconds for _, each in own if each.seconds is not None]
    return RaterSummary(
        name,
        len(own),
        sum(each.label == item.final for item, each in seen) / len(seen) if seen else None,
        sum(gold) / len(gold) if gold else None,
        len(gold),
        statistics.median(seconds) if seconds else None,
    )
