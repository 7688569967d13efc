"""Tables for a pull request."""

from __future__ import annotations

from interlock.evals.gate.deciding import Verdict
from interlock.evals.report import MetricSummary, Report

__all__ = ["plugin"]

_WORDS: dict[Verdict, str] = {"pass": "pass", "fail": "**FAIL**", "not_enough_evidence": "not enough evidence"}


def plugin(report: Report) -> str:
    """Verdict first, then rules, metrics, floors."""
    lines = [f"## {report.suite}: {_headline(report)}", ""]
    lines.append(
        f"`{_cell(report.target)}` · {report.cases} cases × {report.repeats} · {report.executions} answers, "
        f"{report.failed} failed · {report.cost_nano / 1e9:.4f} USD"
        + (f" and {report.unpriced} answers without a known price" if report.unpriced else "")
        + f" · run `{report.id}`"
    )
    if report.gate is not None:
        lines += ["", *(f"- {_cell(reason)}" for reason in report.gate.reasons)] if report.gate.reasons else []
        lines += [
            "",
            "| rule | slice | verdict | value | 95 % | units | more needed |",
            "|---|---|---|---|---|---|---|",
        ]
        for rule in report.gate.rules:
            interval = "" if rule.interval is None else f"{rule.interval.low:.3f} to {rule.interval.high:.3f}"
            value = "" if rule.value is None else f"{rule.value:.3f}"
            lines.append(
                f"| {_cell(rule.rule)} | {_cell(rule.slice)} | {_WORDS[rule.verdict]} | {value} | {interval} | "
                f"{rule.units} | {'' if rule.more is None else rule.more} |"
            )
    floors = {floor.name: floor.means for floor in report.floors}
    lines += ["", f"| metric | mean | 95 % | units | errors | {' | '.join(floors)} |".replace("|  |", "|")]
    lines.append("|---" * (5 + len(floors)) + "|")
    for metric in report.metrics:
        shown = [f"{means[metric.name]:.3f}" if metric.name in means else "" for means in floors.values()]
        lines.append("| " + " | ".join([*_metric(metric), *shown]) + " |")
    if floors:
        lines += ["", "The last columns are answers without effort: nothing, a refusal, the question, copies."]
    if report.weak_cases:
        shown_cases = ", ".join(f"`{_cell(case)}`" for case in report.weak_cases[:10])
        lines += ["", f"{len(report.weak_cases)} cases are passed by one of these and tell little: {shown_cases}"]
    if report.flaky:
        told = ", ".join(f"`{_cell(each.case)}` ({each.passed} of {each.runs})" for each in report.flaky[:10])
        lines += ["", f"{len(report.flaky)} cases pass and fail by turns: {told}"]
    lines += ["", *(f"- {_cell(note)}" for note in report.notes)] if report.notes else []
    return "\n".join(lines) + "\n"


def _headline(report: Report) -> str:
    if report.gate is None:
        return "measured" if report.ended == "finished" else report.ended
    more = f", about {report.gate.more:,} more cases" if report.gate.more else ""
    return _WORDS[report.gate.verdict] + more


def _metric(metric: MetricSummary) -> list[str]:
    if metric.mean is None or metric.interval is None:
        return [_cell(metric.name), "", "", "0", str(metric.errors)]
    return [
        _cell(metric.name),
        f"{metric.mean:.3f}",
        f"{metric.interval.low:.3f} to {metric.interval.high:.3f}",
        str(metric.units),
        str(metric.errors),
    ]


def _cell(text: str) -> str:
    """Names are anybody's: they must not end a cell or begin markup."""
    return "".join({"|": "\\|", "\n": " ", "\r": " ", "`": "'", "<": "&lt;", ">": "&gt;"}.get(c, c) for c in text)
