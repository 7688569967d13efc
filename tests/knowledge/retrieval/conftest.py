from __future__ import annotations

from interlock.core.ids import DocumentId, PassageId
from interlock.core.passages import Passage, Span
from interlock.knowledge.retrieval.types import Said


class Assistant:
    """A model that gives scripted answers, by a word of its instructions."""

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []
        self.reranked = []
        self.error = None
        self.delay_s = 0.0
        self.tokens = 20
        self.blocked = ()

    async def ask(self, ctx, *, model, system, user, max_tokens, schema=None):
        import anyio

        self.asked.append((model, system, user, max_tokens))
        await anyio.sleep(self.delay_s)
        if self.error is not None:
            raise self.error
        for word, answer in self.answers.items():
            if word in system:
                said = answer.pop(0) if isinstance(answer, list) else answer
                return Said(said, self.tokens)
        raise AssertionError(f"nobody scripted an answer to {system!r}")

    async def rerank(self, ctx, query, texts, *, model):
        self.reranked.append((model, query, list(texts)))
        if self.error is not None:
            raise self.error
        return [float(len(text)) for text in texts]

    async def screen(self, ctx, passages):
        return [p for p in passages if not any(word in p.text for word in self.blocked)]


def passage(number, text="", *, document=None, score=0.5, heading="", start=0, digest="sha256:0", metadata=()):
    return Passage(
        id=PassageId(f"psg_{number}"),
        document_id=DocumentId(f"doc_{number if document is None else document}"),
        document_digest=digest,
        source=f"{number}.md",
        title=f"Part {number}",
        heading=heading,
        text=text,
        span=Span(start, start + len(text)),
        score=score,
        metadata=tuple(metadata),
    )
