"""Cases that bring the texts which hold their answers: what an app would say if retrieval had found the right ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from interlock.core.context import Context
from interlock.core.errors import InvalidInput, NotFound
from interlock.core.ids import DocumentId
from interlock.core.release import Release
from interlock.evals.types import Case, Evidence
from interlock.flows.parts import Parts
from interlock.knowledge.release import RetrievalSpec

__all__ = ["cases_with_documents"]

_AROUND = 2_000
"""Characters kept on both sides of what a case quotes."""
_MOST_TEXT = 100_000
"""Characters of a document that a case names without quoting it."""


async def cases_with_documents(parts: Parts, release: Release, cases: Sequence[Case]) -> list[Case]:
    """The same cases with the texts that they name as evidence planted, each read by the rights of who asks it.

    A case that names none is asked without any document, as the right answer is then to decline.

    Raises: InvalidInput: no case names a document that is there and may be read.
    """
    owner = parts.access.local_owner()
    collection = RetrievalSpec.model_validate(release.components["retrieval"], extra="ignore").collection
    known = {info.source: info.id for info in await parts.knowledge.documents(owner, collection=collection)}
    found = [await _with_texts(parts, owner, case, known) for case in cases]
    if not any(case.metadata["planted"] for case in found):
        raise InvalidInput(
            "no case says which documents hold its answer",
            param="cases",
            hint="give the cases `evidence` or `relevant`, or leave this variant out",
        )
    return found


async def _with_texts(parts: Parts, owner: Context, case: Case, known: Mapping[str, DocumentId]) -> Case:
    caller = parts.access.act_as(owner, case.user) if case.user else owner
    named: dict[str, list[Evidence]] = {}
    for each in case.evidence:
        named.setdefault(each.source, []).append(each)
    for source, grade in case.relevant.items():
        if grade > 0:
            named.setdefault(source, [])
    planted: list[dict[str, str]] = []
    for source, places in named.items():
        if source not in known:
            continue
        try:
            text = (await parts.knowledge.document_text(caller, known[source])).text
        except NotFound:
            # Not for whoever asks this case: an app would not find it either.
            continue
        planted.append({"name": source, "text": _around(text, places)})
    return case.model_copy(update={"metadata": {**case.metadata, "planted": planted}})


def _around(text: str, places: Sequence[Evidence]) -> str:
    """What is quoted, with its surroundings; the beginning of a text of which nothing is quoted."""
    spans: list[tuple[int, int]] = []
    for each in places:
        start = each.start if each.start is not None else text.find(each.quote) if each.quote else -1
        if 0 <= start < len(text):
            end = each.end if each.end is not None else start + len(each.quote)
            spans.append((max(0, start - _AROUND), min(len(text), end + _AROUND)))
    if not spans:
        return text[:_MOST_TEXT]
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return "\n\n".join(text[start:end] for start, end in merged)[:_MOST_TEXT]
