"""Knowledge: ingest documents, search them by the caller's rights, assemble evidence with exact spans."""

from interlock.knowledge.service import KnowledgeService
from interlock.knowledge.settings import FusionSettings, KnowledgeSettings
from interlock.knowledge.sources import SourceSpec, parse_spec, read_spec
from interlock.knowledge.types import DocumentInfo, DocumentText, IngestReport, Progress, Snapshot

__all__ = [
    "DocumentInfo",
    "DocumentText",
    "FusionSettings",
    "IngestReport",
    "KnowledgeService",
    "KnowledgeSettings",
    "Progress",
    "Snapshot",
    "SourceSpec",
    "parse_spec",
    "read_spec",
]
