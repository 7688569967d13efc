"""One page for people, whole in itself: no scripts, nothing from elsewhere, light and dark."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from interlock.evals.report import Report
from interlock.stats.intervals import Interval

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["plugin"]

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{ r.suite }}: {{ verdict }}</title>
<style>
:root { color-scheme: light dark; --ink: light-dark(#1b1f24, #e6e8eb); --soft: light-dark(#57606a, #9aa4af);
  --line: light-dark(#d5dae0, #363d45); --page: light-dark(#fff, #15181c); --bar: light-dark(#3b6fb5, #7aa7e0);
  --pass: light-dark(#18713a, #5fc98a); --fail: light-dark(#b3261e, #ff8a80); --open: light-dark(#8a5a00, #f0b95a); }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); margin: 0 auto;
  padding: 1.5rem; max-width: 68rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .4rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; } .n { text-align: right; font-variant-numeric: tabular-nums; }
td { overflow-wrap: anywhere; } .soft { color: var(--soft); } code { font-size: .9em; overflow-wrap: anywhere; }
.pass { color: var(--pass); } .fail { color: var(--fail); } .not_enough_evidence { color: var(--open); }
.verdict { font-weight: 700; } svg { display: block; width: 9rem; height: 1rem; }
</style>
</head>
<body>
<h1>{{ r.suite }}: <span class="verdict {{ kind }}">{{ verdict }}</span></h1>
<p class="soft"><code>{{ r.target }}</code> · run
<code>{{ r.id }}</code> · {{ r.began_at.strftime('%Y-%m-%d %H:%M') }} UTC ·
{{ '{:,}'.format(r.cases) }} cases × {{ r.repeats }} · {{ '{:,}'.format(r.executions) }} answers,
{{ '{:,}'.format(r.failed) }} failed{% if r.kept %}, {{ '{:,}'.format(r.kept) }} kept from before{% endif %} ·
{{ '%.4f' % (r.cost_nano / 1e9) }} USD
{% if r.unpriced %} and {{ '{:,}'.format(r.unpriced) }} answers without a known price{%
endif %}{% if r.ended != 'finished' %} · ended: {{ words(r.ended) }}{% endif %}</p>
{% if r.gate %}
<h2>Gate</h2>
{% if r.gate.reasons %}<ul>{% for reason in r.gate.reasons %}<li>{{ reason }}</li>{% endfor %}</ul>{% endif %}
<div class="wide"><table><thead><tr><th scope="col">rule</th><th scope="col">slice</th><th scope="col">verdict</th>
<th scope="col" class="n">value</th><th scope="col" class="n">95 %</th><th scope="col" class="n">units</th>
<th scope="col" class="n">more needed</th><th scope="col">note</th></tr></thead><tbody>
{% for rule in r.gate.rules %}<tr><td>{{ rule.rule }}</td><td>{{ rule.slice }}</td>
<td class="verdict {{ rule.verdict }}">{{ words(rule.verdict) }}</td><td class="n">{{ number(rule.value) }}</td>
<td class="n">{{ between(rule.interval) }}</td><td class="n">{{ rule.units }}</td>
<td class="n">{{ '' if rule.more is none else '{:,}'.format(rule.more) }}</td><td>{{ rule.note }}</td></tr>
{% endfor %}</tbody></table></div>
{% endif %}
<h2>Metrics</h2>
<div class="wide"><table><thead><tr><th scope="col">metric</th><th scope="col" class="n">mean</th>
<th scope="col" class="n">95 %</th><th scope="col">from 0 to 1</th><th scope="col" class="n">units</th>
<th scope="col" class="n">not applicable</th><th scope="col" class="n">errors</th>
{% for floor in r.floors %}<th scope="col" class="n">floor: {{ floor.name }}</th>{% endfor %}</tr></thead><tbody>
{% for m in r.metrics %}<tr><td>{{ m.name }}
{% if m.better == 'lower' %} <span class="soft">(lower is better)</span>{% endif %}</td>
<td class="n">{{ number(m.mean) }}</td><td class="n">{{ between(m.interval) }}</td>
<td>
{% if m.scale != 'real' and m.mean is not none and m.interval %}<svg viewBox="0 0 100 12" preserveAspectRatio="none"
role="img"
aria-label="{{ number(m.mean) }}, {{ between(m.interval) }}"><line x1="0" y1="6" x2="100" y2="6" stroke="var(--line)"/>
<rect x="{{ '%.2f' % (100 * m.interval.low) }}" y="4" width="{{ '%.2f' % (100 * (m.interval.high - m.interval.low)) }}"
height="4" fill="var(--bar)" opacity=".45"/><rect x="{{ '%.2f' % (99 * m.mean) }}" y="1" width="1" height="10"
fill="var(--bar)"/></svg>{% elif m.p50 is not none %}<span class="soft">p50 {{ number(m.p50) }}, p95 {{ number(m.p95)
}}</span>{% endif %}</td><td class="n">{{ m.units }}</td><td class="n">{{ m.not_applicable or '' }}</td>
<td class="n">{{ m.errors or '' }}</td>
{% for floor in r.floors %}<td class="n">{{ number(floor.means.get(m.name)) }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% if r.floors %}<p class="soft">Floors are answers without effort: nothing, a refusal, the question, copies. An app
has to
beat them.</p>{% endif %}
{% if r.slices %}
<h2>Slices</h2>
<div class="wide"><table><thead><tr><th scope="col">slice</th><th scope="col">metric</th>
<th scope="col" class="n">mean</th>
<th scope="col" class="n">95 %</th><th scope="col" class="n">expected next time</th>
<th scope="col" class="n">units</th></tr>
</thead><tbody>
{% for s in r.slices %}<tr><td>{{ s.slice }}</td><td>{{ s.metric }}</td><td class="n">{{ number(s.mean) }}</td>
<td class="n">{{ between(s.interval) }}</td><td class="n">{{ number(s.shrunk) }}</td>
<td class="n">{{ s.units }}</td></tr>
{% endfor %}</tbody></table></div>
{% endif %}
{% if r.worst %}
<h2>Worst cases</h2>
<div class="wide"><table><thead><tr><th scope="col">case</th><th scope="col">metric</th>
<th scope="col" class="n">value</th>
</tr></thead><tbody>
{% for w in r.worst %}<tr><td>{{ w.case }}</td><td>{{ w.metric }}</td><td class="n">{{ number(w.value) }}</td></tr>
{% endfor %}</tbody></table></div>
{% endif %}
{% if r.flaky %}
<h2>Cases that pass and fail by turns</h2>
<div class="wide"><table><thead><tr><th scope="col">case</th><th scope="col">metric</th>
<th scope="col" class="n">passed</th>
</tr></thead><tbody>
{% for f in r.flaky %}<tr><td>{{ f.case }}</td><td>{{ f.metric }}</td>
<td class="n">{{ f.passed }} of {{ f.runs }}</td></tr>
{% endfor %}</tbody></table></div>
{% endif %}
{% if r.weak_cases %}
<h2>Cases that tell little</h2>
<p>A floor passes {{ '{:,}'.format(r.weak_cases | length) }} of them: {{ r.weak_cases[:50] | join(', ') }}{% if
r.weak_cases | length > 50 %} …{% endif %}</p>
{% endif %}
{% if r.sealed or r.notes %}
<h2>Notes</h2>
<ul>{% if r.sealed %}<li>{{ '{:,}'.format(r.sealed) }} cases are sealed: their rows are not shown.</li>{% endif %}
{% for note in r.notes %}<li>{{ note }}</li>{% endfor %}</ul>
{% endif %}
<p class="soft">{% if r.release %}release <code>{{ r.release }}</code> · {% endif %}suite
<code>{{ r.suite_digest }}</code> · report
<code>{{ r.digest() }}</code></p>
</body>
</html>
"""


def plugin(report: Report) -> str:
    """Everything that people ask of a run; every text of others is escaped."""
    kind = "" if report.gate is None else report.gate.verdict
    verdict = _words(kind or ("measured" if report.ended == "finished" else report.ended))
    return _template().render(r=report, kind=kind, verdict=verdict, number=_number, between=_between, words=_words)


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(_PAGE)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


def _between(interval: Interval | None) -> str:
    return "" if interval is None else f"{_number(interval.low)} to {_number(interval.high)}"


def _words(name: str) -> str:
    return name.replace("_", " ")
