"""How texts, charts and settings are drawn."""

from __future__ import annotations

import re
from html import unescape

from hypothesis import given
from hypothesis import strategies as st

from interlock.config import Origin
from interlock.console.charts import HEIGHT, WIDTH, change, spark
from interlock.console.documents import lay_out
from interlock.console.settings import shown_settings
from interlock.console.traces import waterfall
from interlock.core.context import Context, Principal, Role
from interlock.core.ids import DocumentId, PassageId, PrincipalId, SpanId, TenantId, new_trace_id
from interlock.core.passages import Passage, Span
from interlock.core.trace import Span as Step
from interlock.observe.service import Observe

TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r") | st.sampled_from("\n<>&|"), max_size=300
)


def drawn(text: str, span: Span | None) -> str:
    return "".join(str(line) for block in lay_out(text, [], "", span).blocks for line in block.html)


@given(TEXT, st.integers(0, 300), st.integers(0, 300))
def test_the_mark_holds_exactly_the_span_and_everything_else_is_escaped(text: str, start: int, length: int) -> None:
    span = Span(min(start, len(text)), min(start + length, len(text)))
    html = drawn(text, span)
    assert not re.search(r"<(?!/?(mark|td)\b)", html)
    marked = unescape("".join(re.findall(r"<mark[^>]*>(.*?)</mark>", html, re.DOTALL)))
    # Blank lines between blocks and the bars between cells are layout, not text.
    assert [c for c in marked if not c.isspace() and c != "|"] == [
        c for c in text[span.start : span.end] if not c.isspace() and c != "|"
    ]
    assert html.count('id="cited"') == (1 if "<mark" in html else 0)


def test_headings_pages_and_rows_are_laid_out() -> None:
    text = "Guide\n\nPart one\n\nFirst words.\n\nA | B\n1 | 2"
    passage = Passage(
        PassageId("p"), DocumentId("d"), "x", "s", "Guide", "Guide › Part one", "First words.", Span(17, 29), 2
    )
    kinds = [(block.kind, block.level) for block in lay_out(text, [passage], "Guide", None).blocks]
    assert kinds == [("heading", 1), ("heading", 2), ("page", 0), ("text", 0), ("rows", 0)]


def test_a_long_document_shows_the_part_around_its_span() -> None:
    text = "\n\n".join(f"word {n}" for n in range(20_000))
    at = text.index("word 15000")
    reading = lay_out(text, [], "", Span(at, at + 10))
    assert reading.cut_before
    assert reading.cut_after
    assert reading.found


@given(st.lists(st.none() | st.floats(0, 1e12), min_size=2, max_size=48))
def test_a_chart_stays_in_its_box(values: list[float | None]) -> None:
    chart = spark(values)
    for x, y in re.findall(r"[ML](-?[\d.]+),(-?[\d.]+)", f"{chart.line} {chart.dots} {chart.area}"):
        assert 0 <= float(x) <= WIDTH
        assert 0 <= float(y) <= HEIGHT


def test_a_change_is_told_in_words() -> None:
    assert change(5, 0) == ""
    assert change(100, 100) == "as the day before"
    assert change(150, 100) == "+50 % on the day before"
    assert change(50, 100) == "−50 % on the day before"


def test_settings_never_show_a_secret() -> None:
    shown = {
        setting.name: setting.value
        for setting in shown_settings(
            iter(
                [
                    Origin("stores.sql", "postgresql://app:hunter2@db/x", "interlock.yaml"),
                    Origin("gateway.providers.a.headers.x-key", "hunter2", "interlock.yaml"),
                    Origin("server.port", 8321, "default"),
                    Origin("models_dir", None, "default"),
                ]
            )
        )
    }
    assert "hunter2" not in str(shown)
    assert shown["stores.sql"] == "postgresql://app:•••@db/x"
    assert shown["server.port"] == "8321"


def test_a_waterfall_keeps_orphans_and_loops_and_strangers_see_no_counts_of_documents() -> None:
    trace = new_trace_id()

    def step(name: str, parent: str | None, start: int, end: int) -> Step:
        attributes = {"interlock.passages": 3, "new.count": 1, "interlock.answer.decline_reason": "x", "kept": "yes"}
        return Step(trace, SpanId(name), SpanId(parent) if parent else None, TenantId("a"), name, start, end,
                    attributes=dict(attributes))  # fmt: skip

    spans = [
        step("root", None, 0, 100),
        step("child", "root", 10, 60),
        step("orphan", "lost", 20, 20),
        step("self", "self", 5, 6),
    ]
    stranger = Context(TenantId("a"), Principal(PrincipalId("viewer"), "user", frozenset({Role.VIEWER})))
    overseer = Context(TenantId("a"), Principal(PrincipalId("operator"), "user", frozenset({Role.OPERATOR})))
    assert Observe.visible(overseer, spans) == spans
    bars = list(waterfall(Observe.visible(stranger, spans)))
    assert [(bar.span.name, bar.depth) for bar in bars] == [("root", 0), ("child", 1), ("self", 0), ("orphan", 0)]
    assert all(0 <= bar.start <= bar.start + bar.width <= 1000.1 for bar in bars)
    assert all(list(bar.attributes) == ["kept"] for bar in bars)
