"""Metric series are a fixed set, whatever strangers ask for."""

from __future__ import annotations

import pytest

from interlock.server.tally import family_of


@pytest.mark.parametrize(
    ("path", "family"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/models/app/handbook", "/v1/models"),
        ("/v1/zz17/y", "other"),
        ("/api/v1/traces/abc", "/api/v1/traces"),
        ("/api/v2/anything", "other"),
        ("/healthz", "health"),
        ("/documents/doc_1", "console"),
    ],
)
def test_a_path_belongs_to_one_of_a_few_families(path: str, family: str) -> None:
    assert family_of(path) == family
