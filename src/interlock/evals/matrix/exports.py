"""A comparison as Markdown, and as one page of HTML that is whole in itself."""

from __future__ import annotations

from html import escape

from interlock.evals.comparing import Cell
from interlock.evals.matrix.drawing import cell_of, svg
from interlock.evals.matrix.types import Matrix, Measured

__all__ = ["html", "markdown", "questions", "rows", "terms"]

_STYLE = """:root { color-scheme: light dark; --ink: light-dark(#1b1f24, #e6e8eb); --soft: light-dark(#57606a, #9aa4af);
  --line: light-dark(#d5dae0, #363d45); --page: light-dark(#fff, #15181c); }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); margin: 0 auto;
  padding: 1.5rem; max-width: 68rem; }
h1 { font-size: 1.5rem; margin: 0; } .soft { color: var(--soft); } .wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; } code { font-size: .9em; }
th, td { text-align: left; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; } .n { text-align: right; font-variant-numeric: tabular-nums; }
.frontier { max-width: 100%; height: auto; }
.best td { font-weight: 600; }"""


def rows(matrix: Matrix) -> tuple[list[str], list[list[str]]]:
    """Columns and one row a variant, as text: quality, cost and latency first, then what else was measured."""
    metrics = [*matrix.dimensions, *dict.fromkeys(c.metric for c in matrix.cells if c.metric not in matrix.dimensions)]
    columns = ["", "variant", *metrics, "on the frontier", "failed", "release"]
    found = []
    for number, each in enumerate(matrix.variants, start=1):
        figures = [_figure(cell_of(matrix, each.run, name)) for name in metrics]
        told = [_share(matrix, each), str(each.failed), f"rel_{each.release[7:15]}"]
        found.append([str(number), each.variant.label, *figures, *told])
    return columns, found


def _figure(cell: Cell | None) -> str:
    if cell is None:
        return ""
    found = cell.against_first
    beside = ""
    if found is not None:
        beside = f" {'↑' if found.value > 0 else '↓'} p {found.p:.2g}" if found.p <= 0.05 else " ="
    return f"{cell.mean:.4g} ({cell.interval.low:.3g} to {cell.interval.high:.3g}){beside}"


def _share(matrix: Matrix, each: Measured) -> str:
    if each.error:
        return each.error
    mark = "yes" if each.variant.label in matrix.frontier else "no"
    return mark if each.frontier is None else f"{mark}, {each.frontier:.0%} of draws"


_LEGEND = (
    "Intervals are 95 %. ↑ and ↓: more and less than the first variant on the same cases, with p (permutation test, "
    "Holm over the table); = not told apart from it. On the frontier: no other variant equals it in all of "
    "{dimensions} and beats it in one; the share says how often that stays so when the cases are drawn again."
)


def markdown(matrix: Matrix) -> str:
    """Tables for a pull request; where advice was asked for, its memo before them."""
    columns, found = rows(matrix)
    lines = _memo(matrix)
    lines += [f"## {matrix.app}: {len(matrix.variants)} variants on {matrix.suite}", ""]
    lines.append("| " + " | ".join(_cell(each) for each in columns) + " |")
    lines.append("|---" * len(columns) + "|")
    lines += ["| " + " | ".join(_cell(each) for each in row) + " |" for row in found]
    lines += ["", _LEGEND.format(dimensions=", ".join(matrix.dimensions) or "the metrics"), ""]
    lines += [f"- {_cell(note)}" for note in matrix.notes]
    lines.append(f"Comparison `{matrix.id}`, {matrix.began_at:%Y-%m-%d %H:%M} UTC.")
    return "\n".join(lines) + "\n"


_QUESTIONS = {
    "documents": "Would documents help?",
    "retrieval": "Is retrieval what is missing?",
    "examples": "Would examples in the prompt help?",
    "model": "Would another model help?",
    "tuning": "Would tuning a model help?",
}


def questions(matrix: Matrix) -> list[tuple[str, str, str]]:
    """Of the advice: question, answer, and why; empty without one."""
    if matrix.advice is None:
        return []
    return [(_QUESTIONS[each.question], each.answer, each.said) for each in matrix.advice.findings]


def terms(matrix: Matrix) -> str:
    """What the advice rests on, in one sentence."""
    assert matrix.advice is not None, "there is advice"
    return (
        f"Measured on the same cases of {matrix.suite} ({matrix.suite_digest[:15]}), quality is {matrix.quality}, and "
        f"what differs by less than {matrix.advice.margin:g} counts as equal. Better and as good are shown with an "
        "error of 5 % at most, divided among those that are compared with the best."
    )


def _memo(matrix: Matrix) -> list[str]:
    told = matrix.advice
    if told is None:
        return []
    lines = [f"# {matrix.app}: take {_cell(told.recommended)}", "", *(f"- {_cell(each)}" for each in told.why), ""]
    lines += ["| Question | Answer | Why |", "|---|---|---|"]
    lines += [f"| {question} | {answer} | {_cell(said)} |" for question, answer, said in questions(matrix)]
    priced = [f"{_cell(label)} {usd:.4g}" for label, usd in told.usd_per_thousand.items()]
    if priced:
        lines += ["", f"US dollars a thousand answers: {'; '.join(priced)}."]
    return [*lines, "", terms(matrix), ""]


def _memo_html(matrix: Matrix) -> str:
    told = matrix.advice
    if told is None:
        return ""
    why = "".join(f"<li>{escape(each)}</li>" for each in told.why)
    body = "".join(
        f"<tr><td>{escape(question)}</td><td>{answer}</td><td>{escape(said)}</td></tr>"
        for question, answer, said in questions(matrix)
    )
    return f"""<h2>Take {escape(told.recommended)}</h2><ul>{why}</ul>
<div class="wide"><table><thead>
<tr><th scope="col">Question</th><th scope="col">Answer</th><th scope="col">Why</th></tr></thead>
<tbody>{body}</tbody></table></div><p class="soft">{escape(terms(matrix))}</p>
"""


def html(matrix: Matrix) -> str:
    """One page: no scripts, nothing from elsewhere, light and dark."""
    columns, found = rows(matrix)
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in columns)
    body = ""
    for row, each in zip(found, matrix.variants, strict=True):
        best = ' class="best"' if each.variant.label in matrix.frontier else ""
        body += f"<tr{best}>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
    notes = "".join(f"<li>{escape(note)}</li>" for note in matrix.notes)
    legend = escape(_LEGEND.format(dimensions=", ".join(matrix.dimensions) or "the metrics"))
    title = f"{escape(matrix.app)}: {len(matrix.variants)} variants on {escape(matrix.suite)}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title><style>{_STYLE}</style></head><body>
<h1>{title}</h1><p class="soft">Comparison <code>{matrix.id}</code> · {matrix.began_at:%Y-%m-%d %H:%M} UTC</p>
{_memo_html(matrix)}{svg(matrix)}
<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>
<p class="soft">{legend}</p><ul>{notes}</ul></body></html>
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
