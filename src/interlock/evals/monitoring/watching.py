"""Detectors of drift over samples, with what they remember between two looks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from interlock.evals.monitoring.types import AlertKind, MonitorSpec, Sample
from interlock.stats.drift import ChangeDetector, energy_test, psi_test

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Finding", "cluster", "distances_of", "watch_inputs", "watch_values"]

P_INPUTS = 0.01
"""Of each of two windows in a row; see `benchmarks/drift.py` for what that gives."""
NEAR = 0.55
"""Cosine from which a question belongs to an intent: tuned by eye on short English questions and MiniLM."""
_SHOWN = 10
_Z = 1.645


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that has changed."""

    kind: AlertKind
    subject: str
    facts: Mapping[str, float | str | int]
    traces: tuple[str, ...]


# Any in this module: states as JSON.
def watch_values(
    state: dict[str, Any],
    values: Sequence[tuple[str, float]],
    *,
    spec: MonitorSpec,
    worse: Literal["below", "above"],
    kind: AlertKind,
    subject: str,
    usual: int | None = None,
) -> tuple[dict[str, Any], Finding | None]:
    """Take values in [0, 1] in the order they came; gives the new state, and whether their mean has become worse.

    The first `usual` of them (`spec.reference` without it) say what is usual. After an alarm that is learnt anew, since
    what changed stays changed.

    Args:
        values: trace and value.
    """
    state = {"first": [], "logs": None, "n": 0, "recent": [], **state}
    usual = spec.reference if usual is None else usual
    for trace, value in values:
        value = min(1.0, max(0.0, value))
        if state["logs"] is None and len(state["first"]) < usual:
            state["first"] = [*state["first"], value]
            if len(state["first"]) == usual:
                state["mean"], state["bound"] = _bound(state["first"], worse, spec.margin)
                state["logs"] = ChangeDetector(state["bound"], worse).logs
                state["first"] = []
            continue
        detector = ChangeDetector(state["bound"], worse, logs=[_read(log) for log in state["logs"]], n=state["n"])
        evidence = detector.add(value)
        state["logs"], state["n"] = [_told(log) for log in detector.logs], detector.n
        state["recent"] = [*state["recent"], [trace, value]][-200:]
        if evidence >= spec.false_alarm_every:
            recent = state["recent"]
            beyond = [each for each in recent if (each[1] < state["bound"]) == (worse == "below")]
            ordered = sorted(beyond, key=lambda each: each[1], reverse=worse == "above")
            last = [each[1] for each in recent[-50:]]
            facts = {
                "usual": round(state["mean"], 4),
                "now": round(math.fsum(last) / len(last), 4),
                "after": detector.n,
                "evidence": round(min(evidence, 1e12), 1),
            }
            worst = tuple(str(each[0]) for each in ordered[:_SHOWN] if each[0])
            return {}, Finding(kind, subject, facts, worst)
    if state["logs"] is not None:
        state["logs"] = [_told(log) if not isinstance(log, str) else log for log in state["logs"]]
    return state, None


def _told(log: float) -> float | str:
    return "-inf" if log == -math.inf else log


def _read(log: float | str) -> float:
    return -math.inf if log == "-inf" else float(log)


def _bound(values: Sequence[float], worse: Literal["below", "above"], margin: float) -> tuple[float, float]:
    """The mean, and what it is not beyond while nothing changes: its 95 % bound and the margin."""
    n = len(values)
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    # Equal values do not prove that the next one is equal: the rule of three.
    half = max(_Z * math.sqrt(variance / n), 3 / n) + margin
    return mean, max(0.0, mean - half) if worse == "below" else min(1.0, mean + half)


def watch_inputs(
    state: dict[str, Any], samples: Sequence[Sample], *, spec: MonitorSpec
) -> tuple[dict[str, Any], list[Finding]]:
    """Compare what is asked now with what was asked first; samples in the order they came, with vectors.

    Two windows in a row have to differ: a holiday's questions are one window. After an alarm the last window is what is
    usual.
    """
    import numpy as np

    state = {"reference": [], "window": [], "suspect": [], **state}
    findings: list[Finding] = []
    for sample in samples:
        if sample.vector is None:
            continue
        entry = [sample.id, [round(value, 4) for value in sample.vector]]
        if len(state["reference"]) < spec.reference:
            state["reference"] = [*state["reference"], entry]
            continue
        state["window"] = [*state["window"], entry]
        if len(state["window"]) < spec.window:
            continue
        old = np.array([vector for _, vector in state["reference"]], dtype=np.float32)
        new = np.array([vector for _, vector in state["window"]], dtype=np.float32)
        found = _compared(old, new, [one for one, _ in state["window"]])
        before = set(state["suspect"])
        confirmed = [each for each in found if each.kind in before]
        findings += confirmed
        if confirmed:
            state = {"reference": state["window"], "window": [], "suspect": []}
        else:
            state["window"], state["suspect"] = [], [each.kind for each in found]
    return state, findings


def _compared(old: NDArray[np.float32], new: NDArray[np.float32], traces: Sequence[str]) -> list[Finding]:
    import numpy as np

    found: list[Finding] = []
    both = np.concatenate([old, new])
    energy = energy_test(distances_of(both), len(old))
    if energy.p <= P_INPUTS:
        order = sorted(range(len(new)), key=lambda row: -energy.contributions[row])
        facts: dict[str, float | str | int] = {"distance": round(energy.distance, 4), "p": round(energy.p, 4)}
        found.append(Finding("input_drift", "questions", facts, tuple(traces[row] for row in order[:_SHOWN])))
    labels = cluster(both)
    kinds = max(labels) + 1
    if kinds > 1:
        counts = [[0] * kinds, [0] * kinds]
        for row, label in enumerate(labels):
            counts[row >= len(old)][label] += 1
        shift = psi_test(counts[0], counts[1])
        if shift.p <= P_INPUTS:
            grown = max(range(kinds), key=lambda k: counts[1][k] / len(new) - counts[0][k] / len(old))
            members = [traces[row - len(old)] for row, label in enumerate(labels) if label == grown and row >= len(old)]
            facts = {
                "psi": round(shift.psi, 4),
                "p": round(shift.p, 4),
                "share_before": round(counts[0][grown] / len(old), 4),
                "share_now": round(counts[1][grown] / len(new), 4),
            }
            found.append(Finding("intent_drift", "questions", facts, tuple(members[:_SHOWN])))
    return found


def distances_of(vectors: NDArray[np.float32]) -> list[list[float]]:
    """Euclidean, between all rows of ``(n, d)``."""
    import numpy as np

    squares = np.clip(2 - 2 * (vectors @ vectors.T), 0, None)
    np.fill_diagonal(squares, 0)
    found: list[list[float]] = np.sqrt(squares).astype(float).tolist()
    return found


def cluster(vectors: NDArray[np.float32], *, near: float = NEAR, rounds: int = 8) -> list[int]:
    """The group of each row of ``(n, d)`` unit vectors: DP-means, so that their number follows from `near`.

    Kulis and Jordan, ICML 2012, on the sphere. Groups are numbered by size, the largest first.
    """
    import numpy as np

    centres = vectors.mean(axis=0, keepdims=True)
    centres /= max(float(np.linalg.norm(centres)), 1e-12)
    labels = np.zeros(len(vectors), dtype=int)
    for _ in range(rounds):
        rows = list(centres)
        for at, vector in enumerate(vectors):
            cosines = np.array(rows) @ vector
            best = int(cosines.argmax())
            if float(cosines[best]) < near:
                rows.append(vector)
                best = len(rows) - 1
            labels[at] = best
        used = sorted(set(labels.tolist()))
        labels = np.array([used.index(label) for label in labels])
        moved = np.stack([vectors[labels == label].mean(axis=0) for label in range(len(used))])
        moved /= np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12)
        if moved.shape == centres.shape and np.allclose(moved, centres, atol=1e-5):
            break
        centres = moved
    sizes = np.bincount(labels)
    order = {int(label): rank for rank, label in enumerate(np.argsort(-sizes, kind="stable"))}
    return [order[int(label)] for label in labels]
