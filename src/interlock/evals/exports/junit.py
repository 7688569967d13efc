"""JUnit XML for CI: what the gate asks for as test cases, and the metrics with their worst cases to read.

Only what keeps the gate from passing is a failure, so that CI shows red exactly where the exit code is not 0. A single
wrong answer is none: it stands in the output of its metric.
"""

from __future__ import annotations

import re
from xml.sax.saxutils import escape, quoteattr

from interlock.evals.gate.deciding import RuleResult
from interlock.evals.report import MetricSummary, Report

__all__ = ["plugin"]

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def plugin(report: Report) -> str:
    """A `testsuite` for the gate, one for the metrics."""
    seconds = (report.ended_at - report.began_at).total_seconds()
    gate = _gate(report)
    metrics = [_metric(report, metric) for metric in report.metrics]
    failed = sum("<failure" in case for case in gate)
    skipped = sum("<skipped" in case for case in gate)
    head = f"tests={_attr(len(gate) + len(metrics))} failures={_attr(failed)} errors={_attr(0)}"
    told = {
        "run": report.id,
        "target": report.target,
        "release": report.release,
        "suite_digest": report.suite_digest,
        "cost_usd": f"{report.cost_nano / 1e9:.6f}",
        "report_digest": report.digest(),
    }
    properties = "".join(
        f"    <property name={_attr(name)} value={_attr(value)}/>\n" for name, value in told.items() if value
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<testsuites name={_attr(report.suite)} {head} time={_attr(f'{seconds:.3f}')}>\n"
        f"  <testsuite name={_attr(f'{report.suite}: gate')} tests={_attr(len(gate))} failures={_attr(failed)} "
        f"errors={_attr(0)} skipped={_attr(skipped)} time={_attr(f'{seconds:.3f}')} "
        f"timestamp={_attr(f'{report.began_at:%Y-%m-%dT%H:%M:%S}')}>\n"
        f"   <properties>\n{properties}   </properties>\n{''.join(gate)}  </testsuite>\n"
        f"  <testsuite name={_attr(f'{report.suite}: metrics')} tests={_attr(len(metrics))} failures={_attr(0)} "
        f"errors={_attr(0)} skipped={_attr(0)} time={_attr('0')}>\n{''.join(metrics)}  </testsuite>\n"
        "</testsuites>\n"
    )


def _gate(report: Report) -> list[str]:
    if report.gate is None:
        return []
    passes = report.gate.verdict == "pass"
    made = [_case(report, "gate", _rule_name(rule), _rule(rule, passes=passes)) for rule in report.gate.rules]
    reasons = "\n".join(report.gate.reasons)
    # A run that its budget ended passes nothing, whatever its rules say: the whole has a case of its own.
    body = "" if passes else _failure(report.gate.verdict, _words(report.gate.verdict), reasons)
    return [*made, _case(report, "gate", "the gate as a whole", body)]


def _rule_name(rule: RuleResult) -> str:
    return f"{rule.rule} [{rule.slice}]" if rule.slice else rule.rule


def _rule(rule: RuleResult, *, passes: bool) -> str:
    value = "no value" if rule.value is None else f"value {rule.value:.4g}"
    interval = "" if rule.interval is None else f", 95 % {rule.interval.low:.4g} to {rule.interval.high:.4g}"
    more = "" if rule.more is None else f", about {rule.more:,} more needed"
    told = f"{value}{interval}, {rule.units} units{more}" + (f"; {rule.note}" if rule.note else "")
    if rule.verdict == "pass":
        return f"      <system-out>{_text(told)}</system-out>\n"
    if passes:
        return f"      <skipped message={_attr(f'{_words(rule.verdict)}: {told}')}/>\n"
    return _failure(rule.verdict, f"{_words(rule.verdict)}: {told}", told)


def _metric(report: Report, metric: MetricSummary) -> str:
    mean = "no value" if metric.mean is None else f"mean {metric.mean:.4g}"
    interval = "" if metric.interval is None else f", 95 % {metric.interval.low:.4g} to {metric.interval.high:.4g}"
    lines = [f"{mean}{interval}, {metric.units} units, {metric.errors} errors, {metric.not_applicable} not applicable"]
    lines += [f"{each.case}: {each.value:.4g}" for each in report.worst if each.metric == metric.name]
    out = _text("\n".join(lines))
    return _case(report, "metrics", metric.name, f"      <system-out>{out}</system-out>\n")


def _case(report: Report, part: str, name: str, body: str) -> str:
    return (
        f"    <testcase classname={_attr(f'{report.suite}.{part}')} name={_attr(name)} time={_attr('0')}>\n"
        f"{body}    </testcase>\n"
    )


def _failure(kind: str, message: str, body: str) -> str:
    return f"      <failure type={_attr(kind)} message={_attr(message)}>{_text(body)}</failure>\n"


def _words(verdict: str) -> str:
    return verdict.replace("_", " ")


def _attr(value: object) -> str:
    return quoteattr(_NOT_XML.sub("\ufffd", str(value)))


def _text(value: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", value))
