"""Knowledge: ingest documents, search them by the caller's rights, assemble evidence with exact spans.

The names below are imported when first used: the parser process needs none of them.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interlock.knowledge.retrieval.settings import RetrievalSteps
    from interlock.knowledge.service import KnowledgeService
    from interlock.knowledge.settings import FusionSettings, KnowledgeSettings
    from interlock.knowledge.sources import SourceSpec, parse_spec, read_spec
    from interlock.knowledge.types import (
        DocumentInfo,
        DocumentText,
        IngestReport,
        PageBoxes,
        PageReview,
        Progress,
        Snapshot,
    )

__all__ = [
    "DocumentInfo",
    "DocumentText",
    "FusionSettings",
    "IngestReport",
    "KnowledgeService",
    "KnowledgeSettings",
    "PageBoxes",
    "PageReview",
    "Progress",
    "RetrievalSteps",
    "Snapshot",
    "SourceSpec",
    "parse_spec",
    "read_spec",
]

_HOMES = {
    "retrieval.settings": ("RetrievalSteps",),
    "service": ("KnowledgeService",),
    "settings": ("FusionSettings", "KnowledgeSettings"),
    "sources": ("SourceSpec", "parse_spec", "read_spec"),
    "types": ("DocumentInfo", "DocumentText", "IngestReport", "PageBoxes", "PageReview", "Progress", "Snapshot"),
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
