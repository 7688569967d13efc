"""Look prompts over with all that the workspace knows of the apps that use them: models, documents, forms, suites."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anyio import to_thread

from interlock.core.canonical import canonical_bytes, digest_bytes
from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import InterlockError, InvalidInput
from interlock.core.ids import AppName, ReleaseId
from interlock.core.release import Release
from interlock.evals.formats import formats
from interlock.evals.hygiene import leaks
from interlock.evals.suite import read_suite
from interlock.evals.types import Case
from interlock.flows.evaluation_instruments import detectors
from interlock.flows.parts import Parts
from interlock.flows.prompt_desk import pick_prompt, spec_of
from interlock.gateway.structured.schema import first_violation
from interlock.gateway.types import RouteSpec, Target
from interlock.knowledge.release import RetrievalSpec
from interlock.prompts.files import Loaded
from interlock.prompts.linting import AppFacts, Finding, Levels, Secret, Seen, lint, subject_of, worst
from interlock.prompts.service import prompt_of
from interlock.prompts.types import Example, PromptSpec
from interlock.releases.promotion import Evidence

__all__ = ["Linted", "attach_lint", "lint_prompt", "lint_release", "suites_of"]

_MOST_CASES = 50_000
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Linted:
    """A prompt that was looked over."""

    name: str
    digest: str
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    """What could not be looked at."""


async def lint_prompt(
    parts: Parts, ctx: Context, name: str, *, wanted: str = "files", drafted: Mapping[str, str] | None = None
) -> Linted:
    """What rules find in a prompt, for each app that uses it.

    Args:
        wanted: a version, as `pick_prompt` takes it.
        drafted: texts that stand for those of files, by path below the workspace; of the files.

    Raises: Forbidden, NotFound; InvalidInput: the files cannot be read, or no rule is called so.
    """
    place = await parts.prompts.place(ctx, name)
    loaded: Loaded | None = None
    if wanted == "files":
        loaded = await parts.prompts.current(ctx, name, drafted)
        spec, digest = loaded.spec, loaded.digest
    else:
        version = await pick_prompt(parts, ctx, name, wanted)
        spec, digest = spec_of(version), version.digest
        current = await parts.prompts.current_or_none(ctx, name)
        loaded = current if current is not None and current.digest == digest else None
    known, notes = list[AppFacts](), list[str]()
    for app in place.apps:
        try:
            known.append(await _facts(parts, ctx, parts.releases.live(app), spec))
        except InvalidInput as error:
            # What does not hang on the app is looked at all the same.
            notes.append(f"{app} cannot be read, so its models, form and suites were not looked at: {error.message}")
            known.append(AppFacts(app))
    found = await to_thread.run_sync(_look, parts, spec, loaded, known)
    return Linted(name, digest, tuple(found), tuple(notes))


async def lint_release(parts: Parts, ctx: Context, release: Release) -> Linted:
    """What rules find in the prompt of a release, by what the release itself holds. Raises: as `lint_prompt`."""
    spec = prompt_of(release)
    loaded: Loaded | None = None
    for known in await parts.prompts.list(ctx):
        same = known.loaded is not None and known.loaded.digest == release.digests.get("prompt")
        if same and release.app in known.place.apps:
            loaded = known.loaded
    facts = await _facts(parts, ctx, release, spec)
    found = await to_thread.run_sync(_look, parts, spec, loaded, [facts])
    return Linted(release.app, release.digests.get("prompt", ""), tuple(found))


async def attach_lint(parts: Parts, ctx: Context, release: Release, found: Linted) -> Evidence:
    """Add what was found to what is known of a release: channels whose policy asks for `lint` look at it."""
    told = [
        {"rule": each.rule, "severity": each.severity, "file": each.file, "line": each.line, "message": each.message}
        for each in found.findings
    ]
    body = canonical_bytes({"release": release.id, "prompt": found.digest, "findings": told})
    errors = sum(each.severity == "error" for each in found.findings)
    warnings = len(found.findings) - errors
    given = Evidence(
        digest=digest_bytes(body),
        app=AppName(release.app),
        release=ReleaseId(release.id),
        kind="lint",
        name="prompt",
        verdict="fail" if worst(found.findings) == "error" else "pass",
        by=ctx.principal.id,
        at=now(),
        note=f"{errors} errors, {warnings} warnings",
        summary={"errors": errors, "warnings": warnings},
    )
    await parts.releases.attach(ctx, given, body)
    return given


def _look(parts: Parts, spec: PromptSpec, loaded: Loaded | None, known: Sequence[AppFacts]) -> list[Finding]:
    """Findings for all apps together, each with those that it does not hold for all of."""
    if not known:
        return lint(subject_of(spec, loaded, secrets=_secrets), parts.prompts.settings.lint)
    apps: dict[Finding, list[str]] = {}
    for facts in known:
        levels: Levels = {**parts.prompts.settings.lint, **parts.releases.source(facts.name).lint()}
        for each in lint(subject_of(spec, loaded, app=facts, secrets=_secrets), levels):
            apps.setdefault(each, []).append(facts.name)
    found = [replace(each, apps=() if len(for_) == len(known) else tuple(for_)) for each, for_ in apps.items()]
    return sorted(found, key=lambda each: (each.severity != "error", each.file, each.line, each.rule))


def _secrets(text: str) -> Sequence[Secret]:
    return [Secret(each.kind, each.start) for each in detectors()["secrets"].find(text)]


async def _facts(parts: Parts, ctx: Context, release: Release, spec: PromptSpec) -> AppFacts:
    route = RouteSpec.model_validate(release.components["route"], extra="ignore")
    targets = [Target.parse(name) for name in dict.fromkeys([*route.targets, *route.smaller])]
    documents = "retrieval" in release.components
    profiles = {str(target): parts.gateway.profile(target) for target in targets}
    # A small model over documents is given single facts, without the app's own text.
    read = {name: each for name, each in profiles.items() if not (documents and each.tier == "small")}
    sizes = {name: each.context_tokens for name, each in read.items() if each.context_tokens}
    smallest = min(sizes, key=lambda name: sizes[name], default="")
    passages = 0
    if documents:
        passages = RetrievalSpec.model_validate(release.components["retrieval"], extra="ignore").context_tokens
    output = release.components.get("output")
    schema = output.get("schema") if output is not None else None
    return AppFacts(
        release.app,
        documents=documents,
        output=schema if isinstance(schema, dict) else None,
        targets=[str(target) for target in targets],
        context_tokens=sizes.get(smallest, 0),
        context_of=smallest,
        answer_tokens=route.max_output_tokens or 0,
        passage_tokens=passages,
        seen=await to_thread.run_sync(_seen, parts, release.app, spec),
        fits_output=lambda text: _misfit(schema, text) if isinstance(schema, dict) else "",
    )


def _misfit(schema: Mapping[str, Any], text: str) -> str:  # Any: a JSON schema
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return "it is no JSON"
    try:
        fault = first_violation(schema, value)
    except InterlockError:
        # A schema that cannot be checked is told where the app is read, and not for each example.
        return ""
    return "" if fault is None else f"{fault.value_path or 'the whole'}: {fault.message}"


def suites_of(parts: Parts, app: str) -> Path | None:
    """Folder of an app's suites; None where the app does not come from files."""
    folder = parts.releases.source(app).folder
    return None if folder is None else folder / "evals"


def _seen(parts: Parts, app: str, spec: PromptSpec) -> list[Seen]:
    """Few-shot examples that stand in cases of the app's suites."""
    folder = suites_of(parts, app)
    if spec.examples is None or folder is None or not folder.is_dir():
        return []
    rows = spec.examples.rows
    found: list[Seen] = []
    for suite, cases, sealed in _cases_below(folder):
        found += _exact(rows, suite, cases, sealed)
        known = {(each.row, each.case, each.part) for each in found if each.suite == suite}
        for part in ("input", "expected"):
            texts = {str(number): row.input if part == "input" else row.output for number, row in enumerate(rows)}
            for leak in leaks(cases, texts):
                named = "" if leak.case in sealed else leak.case
                if leak.part == part and (int(leak.where), named, part) not in known:
                    found.append(Seen(int(leak.where), suite, named, part, leak.contained, exact=False))
    return list(dict.fromkeys(found))


def _exact(rows: Sequence[Example], suite: str, cases: Sequence[Case], sealed: frozenset[str]) -> Iterator[Seen]:
    asked: dict[tuple[str, ...], str] = {}
    expected: dict[tuple[str, ...], str] = {}
    for case in cases:
        asked.setdefault(_words(case.question), case.id)
        for reference in case.references:
            # Short answers (yes, 42) are right in many places.
            if len(words := _words(reference)) > 6:
                expected.setdefault(words, case.id)
    for number, row in enumerate(rows):
        for part, known, text in (("input", asked, row.input), ("expected", expected, row.output)):
            case_id = known.get(_words(text))
            if case_id is not None:
                yield Seen(number, suite, "" if case_id in sealed else case_id, part, 1.0, exact=True)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.casefold() for word in _WORD.findall(text))


def _cases_below(folder: Path) -> Iterator[tuple[str, Sequence[Case], frozenset[str]]]:
    """Cases by suite, then golden questions that no suite names. What cannot be read its own commands tell of."""
    named: set[Path] = set()
    left = _MOST_CASES
    for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        try:
            suite = read_suite(file)
        except InterlockError:
            continue
        named.update((folder / entry.file).resolve() for entry in suite.spec.cases if not isinstance(entry, Case))
        yield suite.name, suite.cases[:left], suite.sealed_ids
        left -= len(suite.cases)
        if left <= 0:
            return
    for file in sorted(folder.glob("*.jsonl")):
        if file.resolve() not in named and left > 0:
            cases = _golden(file)[:left]
            left -= len(cases)
            yield file.name, cases, frozenset()


def _golden(file: Path) -> list[Case]:
    for form in ("golden", "jsonl"):
        try:
            return [Case.model_validate(fields) for _, fields in formats.get(form).read(file)]
        except (InterlockError, ValueError):
            continue
    return []
