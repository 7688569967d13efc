"""What tuning tries, stage by stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from interlock.core.canonical import digest_json
from interlock.knowledge.retrieval.settings import DiversitySettings, RetrievalSteps
from interlock.knowledge.settings import ChunkingSettings, FusionSettings

__all__ = [
    "CANDIDATES",
    "FUSIONS",
    "STAGES",
    "Stage",
    "Way",
    "chunkings",
    "refined",
    "settings_of",
    "step_ways",
    "ways_beside",
]

Stage = Literal["fusion", "candidates", "chunking", "steps"]
STAGES: tuple[Stage, ...] = ("fusion", "candidates", "chunking", "steps")
_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_DOCUMENT_WEIGHTS = (0.0, 0.1, 0.2, 0.3)
FUSIONS: tuple[FusionSettings, ...] = (
    FusionSettings(method="rrf"),
    *(
        FusionSettings(method="convex", dense_weight=weight, document_weight=documents)
        for documents in _DOCUMENT_WEIGHTS
        for weight in _WEIGHTS
    ),
)
"""Every way of fusing that is tried. Weight 0 is the words alone, weight 1 the meaning alone."""
CANDIDATES = (20, 50, 100, 200)
_WORDS = (60, 80, 100, 120, 150, 200, 250)
_HEADING_WEIGHTS = (1, 2, 3)
_MMR = (0.5, 0.7, 0.9)
_READ = (10, 20, 40)
"""Candidates of a reranker."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way of searching a collection."""

    fusion: FusionSettings
    candidates: int
    chunking: ChunkingSettings
    steps: RetrievalSteps

    @property
    def key(self) -> str:
        """Names it in the results."""
        parts = [self.fusion, self.chunking, self.steps]
        return digest_json([self.candidates, *(part.model_dump(mode="json") for part in parts)])

    def told(self) -> str:
        """For people."""
        fusion = self.fusion
        ranks = "by ranks" if fusion.method == "rrf" else f"meaning {fusion.dense_weight:g}"
        said = [ranks]
        if fusion.document_weight:
            said.append(f"document {fusion.document_weight:g}")
        said.append(f"{self.candidates} candidates")
        cut = self.chunking
        said.append(f"{cut.max_words} words")
        said += [f"overlap {cut.overlap_sentences}"] if cut.overlap_sentences else []
        said += [] if cut.header else ["no header"]
        said += [f"headings {cut.heading_weight} times"] if cut.heading_weight > 1 else []
        if self.steps.diversity is not None and self.steps.diversity.mmr is not None:
            said.append(f"mmr {self.steps.diversity.mmr:g}")
        if self.steps.rerank is not None:
            said.append(f"rerank {self.steps.rerank.candidates}")
        return ", ".join(said)


def ways_beside(best: Way, own: Way) -> list[Way]:
    """Ways of fusing that other passages may want: the best of before, today's, and a few around them."""
    fusions = [best.fusion, own.fusion]
    fusions += [
        FusionSettings(method="convex", dense_weight=weight, document_weight=documents)
        for documents in (0.0, 0.1)
        for weight in (0.2, 0.3, 0.4, 0.5, 0.6)
    ]
    return [replace(best, fusion=fusion) for fusion in dict.fromkeys(fusions)]


def chunkings(now: ChunkingSettings) -> Iterator[ChunkingSettings]:
    """Sizes first. What they are without a header, and with overlap, is tried of the best size: see `refined`."""
    for words in _WORDS:
        if words != now.max_words:
            yield now.model_copy(update={"max_words": words})


def refined(best: ChunkingSettings) -> Iterator[ChunkingSettings]:
    """The best size with the other header, the other overlap, and other weights of title and headings as words."""
    yield best.model_copy(update={"overlap_sentences": 0 if best.overlap_sentences else 1})
    yield best.model_copy(update={"header": not best.header})
    for weight in _HEADING_WEIGHTS:
        if weight != best.heading_weight:
            yield best.model_copy(update={"heading_weight": weight})


def step_ways(best: Way) -> Iterator[Way]:
    """Other values of the steps that the collection takes, and the search without each of them; none is switched on."""
    steps = best.steps
    if steps.diversity is not None and steps.diversity.mmr is not None:
        for value in (None, *_MMR):
            if value != steps.diversity.mmr:
                diversity: DiversitySettings = steps.diversity.model_copy(update={"mmr": value})
                yield replace(best, steps=steps.model_copy(update={"diversity": diversity}))
    if steps.rerank is not None:
        yield replace(best, steps=steps.model_copy(update={"rerank": None}))
        for count in _READ:
            if count != steps.rerank.candidates:
                rerank = steps.rerank.model_copy(update={"candidates": count})
                yield replace(best, steps=steps.model_copy(update={"rerank": rerank}))


# Any: settings as a file has them.
def settings_of(best: Way, own: Way) -> Mapping[str, Any]:
    """What `knowledge.collections.NAME` must say for `best` where `own` holds; what is the same is left out."""
    found: dict[str, Any] = {}
    if best.fusion != own.fusion:
        found["fusion"] = best.fusion.model_dump(mode="json", exclude_defaults=True) or {"method": "convex"}
    if best.candidates != own.candidates:
        found["candidates"] = best.candidates
    if best.chunking != own.chunking:
        found["chunking"] = best.chunking.model_dump(mode="json", exclude_defaults=True) or {"max_words": 150}
    if best.steps != own.steps:
        found["steps"] = best.steps.model_dump(mode="json", exclude_defaults=True)
    return found
