"""Score one answer with every metric of a suite: cheap ones first, costly ones only where they are asked for."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

import anyio
from pydantic import BaseModel, ValidationError

from interlock.core.errors import InterlockError, InvalidInput, MissingExtra
from interlock.core.ports import TokenEmbedder
from interlock.evals.judges.named import JudgedBy, spec_of
from interlock.evals.ports import Derived, Instruments, Metric
from interlock.evals.suite import MeasuredBy
from interlock.evals.types import Case, Output, Score

__all__ = ["check_case_options", "check_instruments", "score_all"]

_log = logging.getLogger("interlock.evals")
_TIMEOUT_S = 300.0


def check_instruments(measured_by: Sequence[MeasuredBy], instruments: Instruments) -> None:
    """Say before the first case what a metric lacks.

    Raises: InvalidInput naming the metric; MissingExtra; NotFound: a judge's file.
    """
    have = {
        "embedder": instruments.embedder is not None,
        "token_vectors": isinstance(instruments.embedder, TokenEmbedder),
        "checker": instruments.check_claim is not None,
        "judge": instruments.ask_judge is not None,
        "detectors": bool(instruments.detectors),
    }
    for each in measured_by:
        for name in each.metric.libraries if isinstance(each.metric, Metric) else ():
            if find_spec(name.partition(".")[0]) is None:
                raise MissingExtra(
                    f"the metric {each.label!r} needs the library {name!r}", hint="pip install 'interlock[eval]'"
                )
        for need in sorted(each.metric.needs) if isinstance(each.metric, Metric) else ():
            if not have[need]:
                raise InvalidInput(
                    f"the metric {each.label!r} needs {_LACKING[need]}",
                    param=f"metrics.{each.label}",
                    hint=_MENDING[need],
                )
        if isinstance(each.options, JudgedBy):
            _check_judge(each, each.options, instruments)


def _check_judge(by: MeasuredBy, options: JudgedBy, instruments: Instruments) -> None:
    spec = spec_of(options, instruments.workspace)
    if (spec.kind == "pairwise") != (by.use.metric == "preferred"):
        fitting = "preferred" if spec.kind == "pairwise" else "judge"
        raise InvalidInput(f"a {spec.kind} judge belongs to the metric {fitting!r}", param=f"metrics.{by.label}")
    if not spec.models and not instruments.judge:
        raise InvalidInput(
            f"the metric {by.label!r} needs {_LACKING['judge']}", param=f"metrics.{by.label}", hint=_MENDING["judge"]
        )


_LACKING = {
    "embedder": "an embedder",
    "token_vectors": "an embedder that gives vectors of single tokens",
    "checker": "a checker of claims",
    "judge": "a model that judges",
    "detectors": "detectors of personal data and orders",
}
_MENDING = {
    "token_vectors": "knowledge.embedder: minilm or onnx, and interlock models fetch",
    "embedder": "pip install 'interlock[knowledge]' && interlock models fetch",
    "checker": "pip install 'interlock[knowledge]' && interlock models fetch",
    "judge": "--judge MODEL, or `models` in the judge's file",
    "detectors": "from Python give Instruments the `detectors()` of interlock.flows.evaluation_instruments",
}


def check_case_options(cases: Sequence[Case], measured_by: Sequence[MeasuredBy]) -> None:
    """Say before the first case which case's own options are wrong. Raises: InvalidInput naming case and field."""
    by_label = {each.label: each for each in measured_by}
    for case in cases:
        for label in case.metrics:
            if label not in by_label:
                raise InvalidInput(
                    f"the case {case.id!r} has options of {label!r}, which the suite does not measure",
                    param=f"cases.{case.id}.metrics",
                    hint=f"one of {', '.join(by_label)}",
                )
            _options(case, by_label[label])


def _options(case: Case, by: MeasuredBy) -> BaseModel:
    own = case.metrics.get(by.label)
    if not own:
        return by.options
    try:
        made: BaseModel = by.metric.options.model_validate({**by.use.options, **own})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise InvalidInput(
            f"case {case.id!r}: metrics.{by.label}.{field}: {first['msg']}", param=f"cases.{case.id}.metrics"
        ) from error
    return made


async def score_all(
    case: Case, output: Output, measured_by: Sequence[MeasuredBy], instruments: Instruments
) -> dict[str, Score]:
    """Scores by name, without those that are made of others. Never raises for a metric's fault: it is in its score."""
    scores: dict[str, Score] = {}
    first = [each for each in measured_by if isinstance(each.metric, Metric) and not each.use.after]
    later = [each for each in measured_by if isinstance(each.metric, Metric) and each.use.after]
    for each in (*first, *later):
        if each.use.tags and not set(each.use.tags) & set(case.tags):
            scores[each.label] = Score(None, "not asked for in this case")
            continue
        told = _agreed(each, scores)
        scores[each.label] = told if told is not None else await _score(case, output, each, instruments)
    return scores


def _agreed(by: MeasuredBy, scores: Mapping[str, Score]) -> Score | None:
    """The mean of cheaper metrics where they agree, and None where this one has to be asked."""
    if not by.use.only_when_disagree:
        return None
    values = [scores[other].value for other in by.use.after]
    told = [value for value in values if value is not None]
    if len(told) < len(values) or max(told) - min(told) >= 0.5:
        return None
    return Score(math.fsum(told) / len(told), "the cheaper metrics agree")


async def _score(case: Case, output: Output, by: MeasuredBy, instruments: Instruments) -> Score:
    metric = by.metric
    assert not isinstance(metric, Derived)
    try:
        with anyio.fail_after(_TIMEOUT_S):
            made = metric.score(case, output, _options(case, by), instruments)
            score = await made if inspect.isawaitable(made) else made
    except MissingExtra:
        # Every further case would say the same: the run stops with the command that mends it.
        raise
    except TimeoutError:
        return Score(None, f"took longer than {_TIMEOUT_S:g} s", error="timeout")
    except InterlockError as error:
        return Score(None, error.message, error=error.code)
    except Exception as error:  # noqa: BLE001 - a metric is anybody's code: what it raises is written down, and no gate passes on it
        _log.warning("the metric %s raised %s", by.label, type(error).__name__)
        return Score(None, f"the metric raised {type(error).__name__}", error="metric_failed")
    return _checked(score, by)


def _checked(score: object, by: MeasuredBy) -> Score:
    if not isinstance(score, Score):
        return Score(None, f"the metric gave a {type(score).__name__}, no Score", error="metric_failed")
    if score.value is None:
        return score
    if not isinstance(score.value, (int, float)) or not math.isfinite(score.value):
        return Score(None, "the metric gave no finite number", error="metric_failed")
    if by.metric.scale != "real" and not 0 <= score.value <= 1:
        return Score(None, f"the metric gave {score.value:g}, outside 0 to 1", error="metric_failed")
    if by.metric.scale == "binary" and score.value not in {0, 1}:
        return Score(None, f"the metric gave {score.value:g}, neither 0 nor 1", error="metric_failed")
    return score
