"""Prompt only, documents, examples or another model: measure the ways an app could be on its own cases, and say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anyio import to_thread

from interlock.core.context import Context
from interlock.core.errors import InvalidInput
from interlock.core.release import Release
from interlock.evals.matrix.advice import DOCUMENTS, EXAMPLES, PROMPT, RIGHT, SHOWN, advise
from interlock.evals.matrix.shelf import Shelf
from interlock.evals.matrix.types import MOST_VARIANTS, Matrix, Variant
from interlock.evals.service import Evaluations
from interlock.evals.suite import Suite
from interlock.evals.types import Case
from interlock.flows.chat import has_knowledge
from interlock.flows.matrix import MatrixRuns, besides, run_matrix
from interlock.flows.parts import Parts
from interlock.gateway.types import RouteSpec
from interlock.prompts.service import prompt_of

__all__ = ["AdviceAsked", "advise_app"]

_SHOTS = 5
"""Examples that the arm shows to the model."""
_FEWEST = 3
_EXTRACTIVE = "extractive"
"""The target that quotes: it answers nothing where there are no documents."""
_PLAIN = """---
title: Prompt only
---
Answer the question correctly and briefly, in one to three sentences. When you do not know, say so.
"""
# Any in this module: changes to an app's file, as JSON values.


@dataclass(frozen=True, slots=True)
class AdviceAsked:
    """What may be considered."""

    models: Sequence[str] = ()
    """Besides the app's own: ``provider/model``, tuned ones too."""
    collection: str | None = None
    """To answer from, for an app that has no documents."""
    labelled: Sequence[Case] = ()
    """Cases with their answers that are not asked: examples are taken from them."""
    margin: float = 0.05
    """Of quality; what differs by less counts as equal."""


async def advise_app(
    parts: Parts, ctx: Context, app: str, suite: Suite, how: MatrixRuns, *, asked: AdviceAsked, folder: Path
) -> Matrix:
    """Measure the arms and read them. The same call goes on where an earlier one was ended.

    Prompts that an arm needs are written to ``advice`` in the app's folder, once: what is there already is used, so
    that people can better them and ask again.

    Args:
        folder: of the app.

    Raises: InvalidInput: nothing can be varied; as `run_matrix`.
    """
    source = parts.releases.source(app, ctx)
    release = parts.releases.live(source.name)
    arms, notes = await to_thread.run_sync(_arms, release, suite, asked, folder)
    targets = RouteSpec.model_validate(release.components["route"], extra="ignore").targets
    variants = [
        Variant(
            f"{model} · {arm}",
            {"model": model, "arm": arm},
            {**changes, **_route(model, targets, arm)},
            oracle=arm == RIGHT,
        )
        for model in dict.fromkeys([targets[0], *asked.models])
        for arm, changes in arms.items()
        if model != _EXTRACTIVE or arm not in {PROMPT, EXAMPLES}
    ]
    if len(variants) < 2:
        raise InvalidInput(
            "there is one way only for the app to be",
            param="app",
            hint="name other models (--model), a collection (--collection), or labelled cases of another split",
        )
    if len(variants) > MOST_VARIANTS:
        raise InvalidInput(
            f"{len(variants)} variants; {MOST_VARIANTS} at most", param="models", hint="name fewer models"
        )
    found = await run_matrix(parts, ctx, app, suite, how, variants=variants)
    if sum(not each.error for each in found.variants) < 2:
        failed = [f"{each.variant.label}: {each.error}" for each in found.variants if each.error]
        raise InvalidInput(
            f"{len(failed)} of {len(found.variants)} ways could not be measured, so that nothing can be compared: "
            + "; ".join(failed)[:800],
            param="models",
            hint=f"interlock compare show {found.id}",
        )
    runs = await to_thread.run_sync(besides, Evaluations(how.home / "runs"), found)
    told = advise(found, runs, margin=asked.margin, examples=len(asked.labelled))
    done = replace(found, advice=told, notes=(*found.notes, *notes))
    await to_thread.run_sync(Shelf(how.home / "matrices").put, done)
    return done


def _route(model: str, targets: Sequence[str], arm: str) -> dict[str, Any]:
    """The app's own model keeps its fallbacks; without documents there is nothing to quote from."""
    if model != targets[0]:
        return {"route": {"targets": [model]}}
    if arm in {PROMPT, EXAMPLES} and _EXTRACTIVE in targets:
        return {"route": {"targets": [each for each in targets if each != _EXTRACTIVE]}}
    return {}


def _arms(
    release: Release, suite: Suite, asked: AdviceAsked, folder: Path
) -> tuple[dict[str, Mapping[str, Any]], list[str]]:
    """What each arm changes in the app's file, the app as it is first; and which arms were left out, and why."""
    notes: list[str] = []
    arms: dict[str, dict[str, Any]] = {}
    if has_knowledge(release):
        arms[DOCUMENTS] = {}
        arms[PROMPT] = {"knowledge": None, "prompt": _written(folder, "prompt-only.md", _PLAIN)}
    else:
        arms[PROMPT] = {}
        if asked.collection is not None:
            arms[DOCUMENTS] = {"knowledge": {"collection": asked.collection}}
        else:
            notes.append("documents were not considered: name a collection with --collection")
    examples = _examples(suite, asked.labelled)
    if len(examples) < _FEWEST:
        notes.append(f"examples were not considered: fewer than {_FEWEST} labelled cases besides those that were asked")
    elif prompt_of(release).examples is not None or prompt_of(release).variants:
        notes.append("examples were not considered: the prompt has examples, or texts for certain models, of its own")
    else:
        _written(folder, "examples.jsonl", "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in examples))
        for arm, shown in ((PROMPT, EXAMPLES), (DOCUMENTS, SHOWN)):
            if arm in arms:
                arms[shown] = {**arms[arm], "prompt": _with_examples(folder, arms[arm].get("prompt"), shown)}
    if DOCUMENTS in arms:
        if any(case.evidence or case.relevant for case in suite.cases):
            arms[RIGHT] = dict(arms[DOCUMENTS])
        else:
            notes.append("what retrieval loses was not measured: no case names its documents (`evidence`, `relevant`)")
    return dict(arms), notes


def _examples(suite: Suite, labelled: Sequence[Case]) -> list[dict[str, str]]:
    """Labelled cases as examples; none whose question is asked."""
    asked = {" ".join(case.question.casefold().split()) for case in suite.cases}
    return [
        {"input": case.input, "output": case.references[0]}
        for case in labelled
        if isinstance(case.input, str) and case.references and " ".join(case.input.casefold().split()) not in asked
    ]


def _with_examples(folder: Path, prompt: object, name: str) -> str:
    """The prompt with examples in its head, as a file of its own."""
    place = folder / (prompt if isinstance(prompt, str) else _prompt_of(folder))
    text = place.read_text("utf-8")
    head = f"examples: {{ file: examples.jsonl, select: similar, count: {_SHOTS} }}\n"
    has_head = text.startswith("---\n") and "\n---\n" in text
    body = text[4:] if has_head else f"---\n{text}"
    return _written(folder, f"{name.replace(' ', '-')}.md", f"---\n{head}{body}")


def _prompt_of(folder: Path) -> str:
    from interlock.core.yaml_text import read_yaml

    found = read_yaml((folder / "app.yaml").read_text("utf-8"))
    named = found.get("prompt") if isinstance(found, dict) else None
    return named if isinstance(named, str) else "prompt.md"


def _written(folder: Path, name: str, text: str) -> str:
    """Path below the app's folder; what is there stays."""
    place = folder / "advice" / name
    if not place.exists():
        place.parent.mkdir(exist_ok=True)
        place.write_text(text, "utf-8")
    return f"advice/{name}"
