"""A red-team report for people: Markdown for a pull request, one HTML page without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from interlock.evals.redteam.report import Line, RedTeamReport
from interlock.stats.intervals import Interval

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["html", "markdown", "shown_interval", "shown_share"]


def shown_share(part: int, whole: int) -> str:
    """``3 of 20``; nothing of nothing is a dash."""
    return f"{part} of {whole}" if whole else "–"


def shown_interval(interval: Interval | None) -> str:
    """``2 % to 9 %``."""
    return "" if interval is None else f"{interval.low:.0%} to {interval.high:.0%}"


def markdown(report: RedTeamReport) -> str:
    """Families first, then catalogues, what worked, what is not covered."""
    total = report.total
    lines = [
        f"## Red team: {shown_share(total.worked, total.attacks)} attacks worked",
        "",
        f"`{_cell(report.target)}` · run `{report.id}` · {report.began_at:%Y-%m-%d %H:%M} UTC · "
        f"{report.cost_nano / 1e9:.4f} USD",
        "",
        *_table("family", [*report.families, total]),
        "",
        *_table("filed under", report.frameworks),
    ]
    if report.findings:
        lines += ["", "| case | what | times | trace |", "|---|---|---|---|"]
        lines += [
            f"| {_cell(each.case)} | {_cell(each.what)} | {each.times} of {each.runs} | {_cell(each.trace_id)} |"
            for each in report.findings
        ]
    if report.not_covered:
        lines += ["", f"**Not covered**, which is not the same as safe: {', '.join(report.not_covered)}"]
    if report.left:
        told = sorted(
            {f"{each.family}.{each.attack} ({', '.join(each.lacks)})" for each in report.left if not each.twin_only}
        )
        if told:
            lines += ["", f"Not tried, for what the target lacks: {', '.join(told)}"]
    lines += ["", *(f"- {_cell(note)}" for note in report.notes)] if report.notes else []
    return "\n".join(lines) + "\n"


def _table(first: str, rows: Sequence[Line]) -> list[str]:
    lines = [
        f"| {first} | attacks that worked | 95 % | no answer | harmless refused | 95 % | utility |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in rows:
        utility = "" if each.utility is None else f"{each.utility:.0%}"
        lines.append(
            f"| {_cell(each.name)} | {shown_share(each.worked, each.attacks)} | {shown_interval(each.success)} | "
            f"{each.failed or ''} | {shown_share(each.blocked, each.twins)} | {shown_interval(each.false_blocks)} | "
            f"{utility} |"
        )
    return lines


def _cell(text: str) -> str:
    return "".join({"|": "\\|", "\n": " ", "\r": " ", "`": "'", "<": "&lt;", ">": "&gt;"}.get(c, c) for c in text)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Red team: {{ r.target }}</title>
<style>
:root { color-scheme: light dark; --ink: light-dark(#1b1f24, #e6e8eb); --soft: light-dark(#57606a, #9aa4af);
  --line: light-dark(#d5dae0, #363d45); --page: light-dark(#fff, #15181c); --bad: light-dark(#b3261e, #ff8a80); }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); margin: 0 auto;
  padding: 1.5rem; max-width: 68rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .4rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; } .n { text-align: right; font-variant-numeric: tabular-nums; }
td { overflow-wrap: anywhere; } .soft { color: var(--soft); } .bad { color: var(--bad); font-weight: 700; }
code { font-size: .9em; overflow-wrap: anywhere; }
</style>
</head>
<body>
{% macro lines(first, rows) %}<div class="wide"><table><thead><tr><th scope="col">{{ first }}</th>
<th scope="col" class="n">attacks that worked</th><th scope="col" class="n">95 %</th>
<th scope="col" class="n">no answer</th><th scope="col" class="n">harmless refused</th>
<th scope="col" class="n">95 %</th><th scope="col" class="n">utility</th></tr></thead><tbody>
{% for each in rows %}<tr><td>{{ each.name }}</td>
<td class="n{{ ' bad' if each.worked }}">{{ share(each.worked, each.attacks) }}</td>
<td class="n">{{ interval(each.success) }}</td><td class="n">{{ each.failed or '' }}</td>
<td class="n">{{ share(each.blocked, each.twins) }}</td><td class="n">{{ interval(each.false_blocks) }}</td>
<td class="n">{{ '' if each.utility is none else '{:.0%}'.format(each.utility) }}</td></tr>
{% endfor %}</tbody></table></div>{% endmacro %}
<h1>Red team: {{ share(r.total.worked, r.total.attacks) }} attacks worked</h1>
<p class="soft"><code>{{ r.target }}</code> · run <code>{{ r.id }}</code> ·
{{ r.began_at.strftime('%Y-%m-%d %H:%M') }} UTC · {{ '%.4f' % (r.cost_nano / 1e9) }} USD</p>
{% for note in r.notes %}<p>{{ note }}</p>{% endfor %}
<h2>Families</h2>
{{ lines('family', r.families + (r.total,)) }}
<p class="soft">Each attack has a benign twin: the same form with nothing wrong in it. What refuses everything
stops every attack, and every twin.</p>
{% if r.not_covered %}<p><span class="bad">Not covered</span>, which is not the same as safe:
{{ r.not_covered | join(', ') }}</p>{% endif %}
<h2>Catalogues of risks</h2>
{{ lines('filed under', r.frameworks) }}
{% if r.findings %}<h2>What was found</h2>
<div class="wide"><table><thead><tr><th scope="col">case</th><th scope="col">what</th>
<th scope="col" class="n">times</th><th scope="col">trace</th></tr></thead><tbody>
{% for each in r.findings %}<tr><td>{{ each.case }}</td><td>{{ each.what }}</td>
<td class="n">{{ each.times }} of {{ each.runs }}</td><td><code>{{ each.trace_id }}</code></td></tr>
{% endfor %}</tbody></table></div>{% endif %}
{% if r.left %}<h2>Not tried</h2>
<ul>{% for each in r.left %}<li>{{ each.family }}.{{ each.attack }}{{ ' (its twin)' if each.twin_only }}: the target
lacks {{ each.lacks | join(', ') }}</li>{% endfor %}</ul>{% endif %}
</body>
</html>
"""


def html(report: RedTeamReport) -> str:
    """Everything in it; every text of others is escaped."""
    return _template().render(r=report, share=shown_share, interval=shown_interval)


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(_PAGE)
