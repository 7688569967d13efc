"""Embedders by how they are opened: one instance of each, whichever collections use it."""

from __future__ import annotations

from collections.abc import Mapping

from interlock.core.context import Context
from interlock.core.errors import InterlockError, InvalidInput, Misconfigured
from interlock.core.ports import Embedder
from interlock.knowledge.embedders import embedders
from interlock.knowledge.ports import CallersEmbedder, ServedEmbedderPlugin, VectorModel
from interlock.knowledge.settings import EmbedderFacts, KnowledgeSettings
from interlock.knowledge.spaces.types import Opening

__all__ = ["Embedders", "for_caller"]


class Embedders:
    """Opens embedders.

    Args:
        settings: which one a collection has, and where models are.
        given: used for every collection, whatever the settings name.
        named: embedders by name, beside the plug-ins.
        vectors: makes vectors at a provider; without it embedders that need one cannot be opened.
    """

    def __init__(
        self,
        settings: KnowledgeSettings,
        *,
        given: Embedder | None = None,
        named: Mapping[str, Embedder] | None = None,
        vectors: VectorModel | None = None,
    ) -> None:
        self._settings = settings
        self.given = given
        self._named = named or {}
        self._vectors = vectors
        self._opened: dict[str, Embedder] = {}

    def configured(self, collection: str | None = None) -> Opening:
        """What the settings name for a collection; for None what they name for all others."""
        settings = self._settings
        own = settings.collections.get(collection) if collection is not None else None
        if own is not None and own.embedder is not None:
            return Opening(own.embedder, own.embedder_model, _facts(own.embedder_facts))
        return Opening(settings.embedder, settings.embedder_model, _facts(settings.embedder_facts))

    def open_configured(self, collection: str | None = None) -> Embedder:
        """The embedder of a collection by the settings. Raises: MissingExtra, InvalidInput, Misconfigured."""
        if self.given is not None:
            return self.given
        own = self._settings.collections.get(collection) if collection is not None else None
        threads = own.embedder_threads if own is not None and own.embedder is not None else None
        return self.open(self.configured(collection), threads=threads)

    def open(self, opening: Opening, *, threads: int | None = None) -> Embedder:
        """The embedder; cheap, weights load when it is first used. Raises: MissingExtra, InvalidInput, Misconfigured.

        Args:
            threads: CPU threads; as for others when None. Embedders that are open keep theirs.
        """
        if opening.name in self._named:
            return self._named[opening.name]
        key = f"{opening.name}\0{opening.model}\0{sorted(opening.facts.items())}"
        if key not in self._opened:
            self._opened[key] = self._open(opening, threads or self._settings.embedder_threads)
        return self._opened[key]

    def is_served(self, opening: Opening) -> bool:
        """Whether only this process can open it: a model of the gateway, or an embedder that was handed in."""
        return opening.name in self._named or isinstance(embedders.get(opening.name), ServedEmbedderPlugin)

    def _open(self, opening: Opening, threads: int) -> Embedder:
        plugin = embedders.get(opening.name)
        if isinstance(plugin, ServedEmbedderPlugin):
            if self._vectors is None:
                raise Misconfigured(
                    f"the embedder {opening.name!r} asks models of the gateway, and this service has none",
                    param="knowledge.embedder",
                )
            if not opening.facts:
                raise InvalidInput(
                    f"the embedder {opening.name!r} must be told what the model {opening.model!r} gives and takes",
                    param="knowledge.embedder_facts",
                    hint="embedder_facts: {dimensions: 1536, max_tokens: 8191}",
                )
            return plugin.open_served(opening.model, EmbedderFacts.model_validate(dict(opening.facts)), self._vectors)
        which = {"model": opening.model} if opening.model else {}
        return plugin.open(self._settings.models, threads=threads, **which)

    def recognise(self, space: str, collection: str) -> Opening | None:
        """How the embedder of a space is opened whose opening nobody noted; None when nothing here gives that space."""
        candidates = [self.configured(collection), self.configured()]
        candidates += [Opening(name) for name in self._named]
        candidates += [Opening(name) for name in embedders.names()]
        for opening in candidates:
            try:
                if self.open(opening).id == space:
                    return opening
            except InterlockError:
                continue  # not installed, or it needs to be told a model
        return None


def for_caller(embedder: Embedder, ctx: Context) -> Embedder:
    """The embedder as a caller uses it: what it costs is theirs."""
    return embedder.for_caller(ctx) if isinstance(embedder, CallersEmbedder) else embedder


def _facts(facts: EmbedderFacts | None) -> dict[str, object]:
    return {} if facts is None else facts.model_dump(mode="json")
