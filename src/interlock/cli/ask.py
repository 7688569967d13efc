"""`interlock ask`."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import asdict, replace
from typing import Any

import click
import msgspec

from interlock.cli.session import Session, emit, json_option, pass_session, run, table
from interlock.core.answers import Answer, AnswerSentence, Quote
from interlock.core.errors import InvalidInput
from interlock.core.messages import ChatRequest, Finish, TextDelta, text_message

__all__ = ["ask", "print_answer"]


@click.command()
@click.argument("question")
@click.option("--app", "app_name", help="App, as NAME or NAME@channel (default: the only app).")
@click.option("--release", "frozen", metavar="APP:ID", help="Ask exactly this frozen release instead.")
@click.option("--as", "user", metavar="USER", help="Ask as a user of the workspace's directory.")
@click.option("--var", "given", multiple=True, metavar="NAME=VALUE", help="A variable of the prompt; YAML unless text.")
@click.option("--stream", is_flag=True, help="Print each sentence as soon as it is checked.")
@click.option("--explain", is_flag=True, help="Show which claim rests on what, with every verdict.")
@json_option
@pass_session
def ask(
    session: Session,
    question: str,
    *,
    app_name: str | None,
    frozen: str | None,
    user: str | None,
    given: tuple[str, ...],
    stream: bool,
    explain: bool,
    as_json: bool,
) -> None:
    """Ask an app, and see the answer with its sources, cost and trace."""
    asking = _ask(
        session, question, app_name, user, frozen=frozen, given=given, stream=stream, explain=explain, as_json=as_json
    )
    run(asking)


async def _ask(
    session: Session,
    question: str,
    app_name: str | None,
    user: str | None,
    *,
    frozen: str | None,
    given: tuple[str, ...],
    stream: bool,
    explain: bool,
    as_json: bool,
) -> None:
    from interlock.flows.chat import Receipt

    async with session.open() as app:
        of, _, release_id = (frozen or "").partition(":")
        if frozen is not None and (app_name is not None or not release_id):
            raise InvalidInput("a release is named APP:ID, without --app", param="--release")
        name = of or app_name or _only_app([source.name for source in app.parts.releases.apps(app.owner())])
        ctx = app.owner() if user is None else app.parts.access.act_as(app.owner(), user)
        request = ChatRequest(f"app/{name}", (text_message("user", question),), stream=stream)
        if frozen is None:
            release = await app.parts.releases.resolve(ctx, request.model)
        else:
            release = await app.parts.releases.load(ctx, name, release_id)
        if given:
            from interlock.cli.prompts import values_of
            from interlock.prompts.service import prompt_of

            request = replace(request, variables=values_of(prompt_of(release).variables, given))
        answer: Answer | None = None
        receipt: Receipt | None = None
        texts: list[str] = []
        live = stream and not as_json
        async with aclosing(app.chat(ctx, request, release)) as events:
            async for event in events:
                match event:
                    case Quote(citation) if live:
                        click.secho(f"“{citation.quote}” — {where(citation)}\n", dim=True)
                    case AnswerSentence() if live:
                        click.echo(event.text + " ", nl=False)
                    case TextDelta(text):
                        texts.append(text)
                        if live:
                            click.echo(text, nl=False)
                    case Answer():
                        answer = event
                    case Receipt():
                        receipt = event
                    case Finish():
                        pass
        assert receipt is not None, "a flow ends with its receipt or raises"
        if live:
            click.echo()
        if answer is None:
            if as_json:
                emit({"answer": "".join(texts), **_receipt(receipt)})
            elif not live:
                click.echo("".join(texts))
            return
        if answer.decline_reason == "no_passages" and not await app.parts.knowledge.documents(app.owner()):
            click.secho("nothing was ingested yet: interlock ingest", fg="yellow", err=True)
        if as_json:
            emit({**_answer(answer), **_receipt(receipt)})
        else:
            print_answer(answer, receipt, with_text=not live)
            if explain:
                print_support(answer)


def _only_app(names: list[Any]) -> str:
    if len(names) != 1:
        known = ", ".join(names) or "none in this workspace"
        raise InvalidInput("say which app to ask", param="--app", hint=f"apps: {known}")
    return str(names[0])


def where(citation: Any) -> str:  # Any: a Citation; kept loose so that `--help` imports little
    """Source and page of a citation, for people."""
    page = f", page {citation.page}" if citation.page else ""
    return f"{citation.source}{page}"


def print_answer(answer: Answer, receipt: Any, *, with_text: bool = True) -> None:  # Any: a flows.chat.Receipt
    """The answer, its sources with their exact quotes, and one line of facts."""
    if with_text:
        click.echo(answer.text)
    for citation in answer.citations:
        click.echo()
        click.secho(f"[{citation.marker}] {citation.title}", bold=True, nl=False)
        click.secho(f"  {where(citation)}, characters {citation.span.start}–{citation.span.end}", dim=True)
        click.secho(f"    “{citation.quote}”", italic=True)
    for conflict in answer.conflicts:
        click.secho(f"set aside: {conflict}", fg="yellow")
    if answer.degraded:
        click.secho(
            f"the model could not be used ({answer.degraded}), so this is quoted; see: interlock doctor", fg="yellow"
        )
    cost = "unpriced" if receipt.cost is None else str(receipt.cost)
    outcome = answer.outcome if answer.outcome != "declined" else f"declined ({answer.decline_reason})"
    click.secho(
        f"\n{outcome} · {receipt.model} · {receipt.usage.total_tokens} tokens · {cost} · "
        f"{receipt.release.short if receipt.release else ''} · trace {receipt.trace_id}",
        dim=True,
    )


def print_support(answer: Answer) -> None:
    """The claim support map: one row a claim, refused ones with what comes nearest to them."""
    rows = [(str(number), claim) for number, sentence in enumerate(answer.sentences, 1) for claim in sentence.claims]
    rows += [("left out", claim) for claim in answer.removed]
    click.echo()
    if not rows:
        click.echo("no claim was made")
        return
    table(
        ["sentence", "claim", "verdict", "score", "checker", "evidence"],
        [
            (
                place,
                claim.text,
                "ok" if claim.support == "supported" else f"refused: {claim.reason}",
                f"{claim.score:.2f}",
                claim.checker,
                f"{where(claim.evidence)}, {claim.evidence.span.start}–{claim.evidence.span.end}"
                if claim.evidence
                else "nothing near",
            )
            for place, claim in rows
        ],
        right=["score"],
    )


def _answer(answer: Answer) -> dict[str, Any]:
    from interlock.flows.views import support_map

    return {
        "answer": answer.text,
        "outcome": answer.outcome,
        "decline_reason": answer.decline_reason or None,
        "answerability": round(answer.answerability, 4),
        "citations": [asdict(citation) for citation in answer.citations],
        "sentences": [
            {"text": s.text, "origin": s.origin, "support": s.support, "markers": [c.marker for c in s.citations]}
            for s in answer.sentences
        ],
        "support_map": support_map(answer),
        "contradictions": [
            {"markers": [c.marker for c in found.citations], "kind": found.kind, "decided_by": found.decided_by or None}
            for found in answer.contradictions
        ],
        "options": [asdict(option) for option in answer.options],
        "conflicts": list(answer.conflicts),
        "degraded": answer.degraded or None,
        "snapshot": answer.snapshot,
        "as_of": answer.as_of.isoformat() if answer.as_of else None,
        "stale": answer.stale,
    }


def _receipt(receipt: Any) -> dict[str, Any]:
    return {
        "trace_id": receipt.trace_id,
        "release": receipt.release.id if receipt.release else None,
        "model": receipt.model,
        "usage": msgspec.structs.asdict(receipt.usage),
        "cost_usd": None if receipt.cost is None else f"{receipt.cost.decimal():f}",
    }
