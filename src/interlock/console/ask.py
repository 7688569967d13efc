"""Ask an app: streamed and checked sentence by sentence, with the span behind each."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlencode

from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from interlock.app import App
from interlock.console.rendering import fragment, render, said, title_of
from interlock.console.session import Caller, Form, form_of, page, reader_of, text_field
from interlock.console.variables import field_of_error, text_of_value, typed_texts, values_of, variable_fields
from interlock.core.answers import Answer, AnswerSentence, Claim, Quote
from interlock.core.clock import now_ns
from interlock.core.context import Context, Role
from interlock.core.errors import InterlockError, InvalidInput
from interlock.core.messages import ChatRequest, TextDelta, text_message
from interlock.core.passages import Citation, Passage, Span
from interlock.core.release import Release
from interlock.flows.app_files import validate_yaml
from interlock.flows.chat import Receipt
from interlock.http.callers import app_of
from interlock.http.security import PAGE_HEADERS
from interlock.http.streaming import EventStream
from interlock.knowledge.grounding.types import AnswerSpec
from interlock.prompts.service import prompt_of
from interlock.prompts.types import VariableSpec
from interlock.releases.types import LIVE_CHANNEL, AppSource

__all__ = ["routes", "span_link"]

_MARKER = re.compile(r"\s?\[(\d+)\]")


class Choice(NamedTuple):
    """An app and a channel that can be asked."""

    value: str
    """``NAME`` or ``NAME@CHANNEL``."""
    label: str


class Sample(NamedTuple):
    """A question to begin with."""

    question: str
    user: str
    variables: Mapping[str, str] = {}
    """Values for the prompt, as one would type them."""


class Samples(NamedTuple):
    """What `samples.yaml` offers."""

    questions: tuple[Sample, ...]
    problem: str
    """Why the file cannot be read; empty when it can."""


class Question(NamedTuple):
    """What was asked."""

    text: str
    app: str
    user: str
    variables: Mapping[str, str] = {}
    """Values for the prompt, as they were typed."""


class ClaimRow(NamedTuple):
    """One row of the claim support map."""

    claim: Claim
    shown: bool
    """It stands in the answer."""


_LONGEST_QUESTION = 16_000


@dataclass(slots=True)
class Result:
    """An answer as the page shows it."""

    question: Question
    took_ms: float = 0.0
    answer: Answer | None = None
    receipt: Receipt | None = None
    release: Release | None = None
    text: str = ""
    """What an app without documents said."""
    error: InterlockError | None = None
    sentences: list[Markup] = field(default_factory=list)

    @property
    def state(self) -> str:
        """The word of the state, for the dot beside it."""
        if self.error is not None:
            return "caution" if self.error.code == "blocked_by_policy" else "danger"
        if self.answer is not None and self.answer.outcome in {"declined", "clarify"}:
            return "idle"
        if self.answer is not None and (self.answer.outcome == "flagged" or self.answer.contradictions):
            return "caution"
        return "clear" if self.answer is not None else "idle"

    @property
    def verdict(self) -> str:
        """The state in a few words."""
        if self.error is not None:
            return title_of(self.error)
        if self.answer is None:
            return "not checked: this app has no documents"
        told = {
            "declined": "declined",
            "clarify": "asks back",
            "flagged": "not everything is confirmed: see the marked claims",
        }
        if self.answer.outcome not in told and self.answer.contradictions:
            return "the sources contradict each other"
        return told.get(self.answer.outcome, "every sentence has its source")

    @property
    def claims(self) -> list[ClaimRow]:
        """The claim support map, what was left out last."""
        if self.answer is None:
            return []
        made = [claim for sentence in self.answer.sentences for claim in sentence.claims]
        return [ClaimRow(claim, True) for claim in made] + [ClaimRow(claim, False) for claim in self.answer.removed]

    def link(self, citation: Citation) -> str:
        """Where a cited span can be read."""
        return link_of(citation, self.question.user)

    def passage_link(self, passage: Passage) -> str:
        """Where a retrieved passage can be read."""
        return span_link(passage.document_id, passage.document_digest, passage.span, self.question.user)

    @property
    def story(self) -> str:
        """How the answer came about, in a sentence."""
        if self.answer is None:
            return ""
        wrote = self.receipt is not None and self.receipt.usage.output_tokens > 0
        return _story(self.answer, self.release, wrote=wrote)


def _story(answer: Answer, release: Release | None, *, wrote: bool) -> str:
    origins = [sentence.origin for sentence in answer.sentences]
    quoted = origins.count("extracted")
    repaired = origins.count("repaired")
    if answer.outcome == "declined":
        return _declined(answer, release)
    if answer.outcome == "clarify":
        return "Several documents you may read answer this equally well, and the question names none of them."
    refused = sum(claim.support == "unsupported" for sentence in answer.sentences for claim in sentence.claims)
    if refused:
        claims = "One claim is" if refused == 1 else f"{refused} claims are"
        return f"Written by the model. {claims} not confirmed by the documents and marked so; the rest was checked."
    if quoted == len(origins):
        why = ": what the model wrote did not pass the check." if wrote else "."
        return f"Quoted word for word from the documents{why}"
    told = ["Written by the model, and every sentence was checked against its source."]
    if repaired:
        told.append(f"{_sentences(repaired)} needed a second try.")
    if answer.removed:
        number = len(answer.removed)
        told.append(f"{'One claim' if number == 1 else f'{number} claims'} did not pass and stayed out.")
    if quoted:
        told.append(f"{_sentences(quoted)} did not pass and {'was' if quoted == 1 else 'were'} replaced by the quote.")
    return " ".join(told)


def _sentences(number: int) -> str:
    return "One sentence" if number == 1 else f"{number} sentences"


def _declined(answer: Answer, release: Release | None) -> str:
    if answer.decline_reason == "no_passages":
        return "Declined: no passage you may read has anything to do with this question."
    if answer.decline_reason == "weak_evidence":
        needed = AnswerSpec.model_validate(release.components.get("answer", {}) if release else {}).min_answerability
        return (
            "Declined before a word was written: the passages found hold the answer with probability "
            f"{answer.answerability:.2f}, and this app answers from {needed:.2f}."
        )
    return "Declined: what the model wrote is not supported by any passage, and no quote answers the question."


class _SampleFile(BaseModel):
    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    class _Line(BaseModel):
        question: str = Field(min_length=1, max_length=2000)
        user: str = Field(default="", alias="as", max_length=128)
        variables: dict[str, JsonValue] = Field(default_factory=dict, max_length=64)

    questions: list[_Line] = Field(default_factory=list, max_length=50)


def samples_of(app: App, name: str) -> Samples:
    """Questions of `apps/NAME/samples.yaml`; a missing file offers none, a broken one says so."""
    file = app.workspace.path(app.workspace.settings.apps_dir) / name / "samples.yaml"
    if not file.is_file():
        return Samples((), "")
    try:
        parsed = validate_yaml(file, _SampleFile)
    except InterlockError as error:
        return Samples((), error.message)
    return Samples(
        tuple(
            Sample(line.question, line.user, {name: text_of_value(value) for name, value in line.variables.items()})
            for line in parsed.questions
        ),
        "",
    )


async def choices_of(app: App, ctx: Context) -> list[Choice]:
    """Every app and channel that points somewhere."""
    found: list[Choice] = []
    for source in app.parts.releases.apps(ctx):
        pointed = [channel.name for channel in await app.parts.releases.channels(ctx, source.name)]
        served = "prod" if "prod" in pointed else source.default_channel
        if served == LIVE_CHANNEL or served in pointed:
            found.append(Choice(source.name, f"{source.name} · {_channel(served)}"))
        others = [name for name in (LIVE_CHANNEL, *pointed) if name != served]
        found += [Choice(f"{source.name}@{name}", f"{source.name} · {_channel(name)}") for name in others]
    return found


def _channel(name: str) -> str:
    return f"{name} (the files as they are now)" if name == LIVE_CHANNEL else name


async def show(request: Request, caller: Caller) -> Response:
    """``GET /ask?q=&app=&as=&var.NAME=``: nothing asked yet."""
    query = request.query_params
    asked = Question(
        query.get("q", "")[:_LONGEST_QUESTION],
        query.get("app", ""),
        query.get("as", "") if caller.may_act_as else "",
        typed_texts({name: [text] for name, text in query.items()}),
    )
    return await _page(request, caller, asked, None)


async def fields(request: Request, caller: Caller) -> Response:
    """``GET /ask/variables?app=``: the fields of another app's prompt, for a page that is open already."""
    declared = await _declared(request, caller, Question("", request.query_params.get("app", ""), ""))
    html = fragment("_variables.html", fields=variable_fields(declared, {}))
    return HTMLResponse(html, 200, dict(PAGE_HEADERS))


async def _declared(request: Request, caller: Caller, asked: Question) -> Mapping[str, VariableSpec]:
    """Variables of the prompt that would answer; none where there is no such app, or its files are broken."""
    app = app_of(request)
    try:
        return prompt_of(await app.parts.releases.resolve(caller.ctx, f"app/{asked.app}")).variables
    except InterlockError:
        # The page is shown all the same; whoever asks is told.
        return {}


async def ask(request: Request, caller: Caller) -> Response:
    """``POST /ask``: the whole answer as a page, for browsers without scripts."""
    question = _question(await form_of(request))
    result = Result(question)
    async with aclosing(_run(request, caller, result)) as events:
        async for _ in events:
            pass
    return await _page(request, caller, question, result, status=result.error.status if result.error else 200)


async def stream(request: Request, caller: Caller) -> Response:
    """``POST /ask/stream``: the same as events; leaving cancels the work."""
    question = _question(await form_of(request))
    return EventStream(_run(request, caller, Result(question)), {})


def _question(form: Form) -> Question:
    return Question(text_field(form, "question"), text_field(form, "app"), text_field(form, "as"), typed_texts(form))


async def _run(request: Request, caller: Caller, result: Result) -> AsyncGenerator[Mapping[str, object], None]:
    """Events for the page while the answer comes; `result` is whole at the end. Never raises an InterlockError."""
    began = now_ns()
    try:
        async with aclosing(_answer(request, caller, result)) as events:
            async for event in events:
                yield event
    except InterlockError as error:
        result.error = error
    result.took_ms = (now_ns() - began) / 1e6
    done = {"event": "done", "html": fragment("_result.html", result=result, person=caller)}
    if result.error is not None and (wrong := field_of_error(result.error)):
        done |= {"variable": wrong, "message": said(result.error.message)}
    yield done


async def _answer(request: Request, caller: Caller, result: Result) -> AsyncGenerator[Mapping[str, object], None]:
    app = app_of(request)
    asked = result.question
    if not asked.text:
        raise InvalidInput("write a question first", param="question")
    ctx = reader_of(request, caller, asked.user)
    result.release = await app.parts.releases.resolve(ctx, f"app/{asked.app}")
    values = values_of(prompt_of(result.release).variables, asked.variables)
    turns = (text_message("user", asked.text),)
    chat = ChatRequest(f"app/{asked.app}", turns, stream=True, variables=values)
    async with aclosing(app.chat(ctx, chat, result.release)) as events:
        async for event in events:
            match event:
                case Quote(citation):
                    yield {"event": "quote", "html": fragment("_quote.html", citation=citation, user=asked.user)}
                case AnswerSentence():
                    shown = cited(event.text, event.citations, asked.user)
                    result.sentences.append(shown)
                    html = fragment("_sentence.html", text=shown, origin=event.origin, support=event.support)
                    yield {"event": "sentence", "html": html}
                case TextDelta(text):
                    result.text += text
                    yield {"event": "text", "text": text}
                case Answer():
                    result.answer = event
                case Receipt():
                    result.receipt = event


def link_of(citation: Citation, user: str) -> str:
    """Where the cited span can be read, with the same person's rights."""
    return span_link(citation.document_id, citation.document_digest, citation.span, user)


def span_link(document: str, digest: str, span: Span, user: str) -> str:
    """Where a span of a version can be read, with the rights of `user`; one's own when empty."""
    query = {"start": span.start, "end": span.end, "digest": digest, **({"as": user} if user else {})}
    return f"/documents/{document}?{urlencode(query)}#cited"


def cited(text: str, citations: Sequence[Citation], user: str) -> Markup:
    """A sentence whose ``[n]`` markers open their spans; everything else is text."""
    known = {citation.marker: citation for citation in citations}
    shown = Markup("")
    at = 0
    for match in _MARKER.finditer(text):
        citation = known.get(int(match.group(1)))
        if citation is None:
            continue
        shown += text[at : match.start()]
        shown += Markup('<a class="cite" href="{}" data-cite aria-label="source {}: {}">{}</a>').format(
            link_of(citation, user), citation.marker, citation.title, citation.marker
        )
        at = match.end()
    return shown + text[at:]


async def _page(
    request: Request, caller: Caller, asked: Question, result: Result | None, *, status: int = 200
) -> Response:
    app = app_of(request)
    choices = await choices_of(app, caller.ctx)
    chosen = asked.app or (choices[0].value if choices else "")
    name = chosen.partition("@")[0]
    declared = await _declared(request, caller, asked._replace(app=chosen)) if choices else {}
    sources: Mapping[str, AppSource] = {source.name: source for source in app.parts.releases.apps(caller.ctx)}
    return render(
        request,
        caller,
        "ask.html",
        status=status,
        asked=asked,
        result=result,
        choices=choices,
        chosen=chosen,
        fields=variable_fields(declared, asked.variables, None if result is None else result.error),
        samples=samples_of(app, name) if name in sources else Samples((), ""),
        may_edit=caller.has(Role.DEVELOPER),
        description=sources[name].description if name in sources else "",
        users=sorted(app.parts.access.directory.values(), key=lambda u: u.name) if caller.may_act_as else [],
    )


routes = [
    Route("/ask", page(show)),
    Route("/ask", page(ask), methods=["POST"]),
    Route("/ask/stream", page(stream), methods=["POST"]),
    Route("/ask/variables", page(fields)),
]
