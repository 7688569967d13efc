"""Passages with a sentence before them that says where they stand: written once by a model, embedded and searched with
them, never quoted.
"""

from __future__ import annotations

from dataclasses import replace

from interlock.core.canonical import digest_json
from interlock.core.context import Context
from interlock.core.ports import Embedder
from interlock.knowledge.cleaning.ports import ContextWriter
from interlock.knowledge.cleaning.settings import ContextSettings
from interlock.knowledge.cleaning.store import CleanedStore
from interlock.knowledge.preparing import Prepared
from interlock.knowledge.types import Chunk

__all__ = ["Contexts"]

_VERSION = "context/1"
_BEGINNING = 3_000
"""Characters of the document that a model is shown."""


class Contexts:
    """Contexts of one run.

    Args:
        settings: of the collection.
        store: keeps what was written: the same passage is paid for once.
        embedder: counts.
        writer: None writes nothing new.
    """

    def __init__(
        self, settings: ContextSettings, store: CleanedStore, embedder: Embedder, writer: ContextWriter | None
    ) -> None:
        self._settings = settings
        self._store = store
        self._embedder = embedder
        self._writer = writer

    async def added(self, ctx: Context, one: Prepared) -> Prepared:
        """The document with contexts in its search texts, as many as there are and the budget allows."""
        if not one.chunks:
            return one
        info = one.record.info
        known = await self._store.contexts(ctx.tenant, info.id)
        new: dict[str, str] = {}
        used: set[str] = set()
        chunks: list[Chunk] = []
        missing = 0
        for chunk in one.chunks:
            passage = one.document.text[chunk.span.start : chunk.span.end]
            key = digest_json([_VERSION, self._settings.model, info.title, chunk.heading, passage])
            text = known.get(key) or new.get(key)
            if text is None and self._writer is not None:
                before = one.document.text[:_BEGINNING]
                text = await self._writer.write(
                    ctx, self._settings, title=info.title, heading=chunk.heading, before=before, passage=passage
                )
                if text:
                    new[key] = text
            used.add(key)
            missing += not text
            chunks.append(self._with(chunk, text) if text else chunk)
        await self._store.keep_contexts(ctx.tenant, info.id, new, set(known) - used)
        facts = replace(info.cleaning, without_context=missing)
        record = one.record._replace(info=replace(info, cleaning=facts))
        tokens = sum(self._embedder.count_tokens(chunk.search_text) for chunk in chunks)
        return replace(one, record=record, chunks=chunks, tokens=tokens)

    def _with(self, chunk: Chunk, text: str) -> Chunk:
        """As many words of the context as there is room for."""
        count, words = self._embedder.count_tokens, text.split()
        while words and count(" ".join(words)) > self._settings.max_tokens:
            words.pop()
        while words and count(f"{' '.join(words)}\n{chunk.search_text}") > self._embedder.max_tokens:
            words.pop()
        return replace(chunk, search_text=f"{' '.join(words)}\n{chunk.search_text}") if words else chunk
