"""`interlock traces`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run, table
from interlock.core.clock import now
from interlock.core.money import Money
from interlock.core.trace import Span

__all__ = ["traces"]


@click.command()
@click.argument("trace_id", required=False)
@click.option("--app", "app_name", help="Only this app.")
@click.option("--status", type=click.Choice(["ok", "error", "cancelled"]))
@click.option("--hours", type=float, default=24 * 7, show_default=True, help="How far back.")
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True)
@json_option
@pass_session
def traces(
    session: Session,
    trace_id: str | None,
    app_name: str | None,
    status: str | None,
    hours: float,
    limit: int,
    as_json: bool,
) -> None:
    """List traces, newest first, or show the steps of one (TRACE_ID or its first 8 digits)."""

    async def work() -> None:
        from interlock.stores.events.base import TraceFilter

        async with session.open() as app:
            ctx = app.owner()
            if trace_id:
                spans = await app.parts.observe.trace(ctx, trace_id)
                emit([asdict(span) for span in spans]) if as_json else _waterfall(spans)
                return
            where = TraceFilter(since=now() - timedelta(hours=hours), app=app_name, status=status, limit=limit)
            rows = await app.parts.observe.traces(ctx, where)
            if as_json:
                emit([row._asdict() for row in rows])
                return
            table(
                ["trace", "when", "what", "app", "model", "ms", "tokens", "cost", "status"],
                [
                    (
                        row.trace_id[:12],
                        f"{datetime.fromtimestamp(row.start_ns / 1e9, UTC):%m-%d %H:%M:%S}",
                        row.name,
                        row.app,
                        row.model,
                        f"{row.duration_ms:.0f}",
                        row.input_tokens + row.output_tokens,
                        "unpriced" if row.cost_nano is None else str(Money(row.cost_nano)),
                        row.status if row.status == "ok" else f"{row.status}: {row.error}",
                    )
                    for row in rows
                ],
                right=["ms", "tokens", "cost"],
            )

    run(work())


def _waterfall(spans: list[Span]) -> None:
    """Steps under their parents, with offset, duration and what is known of each."""
    start = min(span.start_ns for span in spans)
    children: dict[str | None, list[Span]] = {}
    known = {span.span_id for span in spans}
    for span in spans:
        parent = span.parent_id if span.parent_id in known else None
        children.setdefault(parent, []).append(span)

    def show(span: Span, depth: int) -> None:
        offset = (span.start_ns - start) / 1e6
        duration = (span.end_ns - span.start_ns) / 1e6
        mark = "" if span.status == "ok" else f"  {span.status}: {span.error}"
        click.echo(f"{offset:8.0f} ms  {duration:8.0f} ms  {'  ' * depth}{span.name}{mark}")
        facts = ", ".join(f"{name}={value}" for name, value in sorted(span.attributes.items()))
        if facts:
            click.secho(f"{'':26}{'  ' * depth}{facts}", dim=True)
        for child in sorted(children.get(span.span_id, []), key=lambda s: s.start_ns):
            show(child, depth + 1)

    click.echo(f"trace {spans[0].trace_id}")
    for root in sorted(children.get(None, []), key=lambda s: s.start_ns):
        show(root, 0)
