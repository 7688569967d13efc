"""``index:`` of ``knowledge/NAME.yaml``: an index elsewhere that a collection is searched in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

__all__ = ["Credentials", "ExternalIndex", "FieldNames", "MetadataField", "Vectors"]

MiB = 1024 * 1024
_Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
_FieldName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_@][A-Za-z0-9_@.\-]{0,199}$")]
_Reader = Annotated[str, StringConstraints(pattern=r"^(public|user:.{1,200}|group:.{1,200})$")]
_Label = Annotated[str, StringConstraints(min_length=1, max_length=500)]


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or parts.query or parts.fragment:
        raise ValueError("it is an address that starts with https:// or http://, without ? and #")
    if parts.username or parts.password:
        raise ValueError("it holds a name or password; name environment variables under auth instead")
    return url.rstrip("/")


def _field(given: object) -> object:
    return {"field": given} if isinstance(given, str) else given


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MetadataField(_Strict):
    """Where one fact stands. A plain name is a keyword field of that name."""

    field: _FieldName
    """What is filtered by: a keyword, number, date or boolean field"""
    type: Literal["keyword", "number", "date", "boolean"] = "keyword"
    """How the index holds it; only numbers and dates have an order"""

    def stored(self) -> str:
        """The place in the document: a keyword of a text field is not stored there by itself."""
        return self.field.removesuffix(".keyword")


class FieldNames(_Strict):
    """Which field of the index holds what."""

    text: _FieldName
    """What is searched, quoted and cited"""
    readers: _FieldName
    """Keyword field with the labels of who may read; a document without it is found by nobody"""
    title: _FieldName | None = None
    """Searched with the text, and shown"""
    url: _FieldName | None = None
    """Shown as the source; the document's id without it"""
    id: _FieldName | None = None
    """Keyword field with a name that no other document has; ``_id`` without it"""
    metadata: Mapping[str, Annotated[MetadataField, BeforeValidator(_field)]] = {}
    """Facts for filters and answers, by the names they have here"""


class Vectors(_Strict):
    """A field with vectors of the embedder that is in use here."""

    field: _FieldName
    """Of the type `dense_vector` or `knn_vector`; vectors have length 1"""
    embedder: str = Field(min_length=1, max_length=300)
    """Embedding space that the vectors were made in; a search by an embedder with another one names both"""
    similarity: Literal["cosine", "dot_product", "l2", "max_inner_product"] = "cosine"
    """What the field was made with: scores are read back as cosines by it"""


class Credentials(_Strict):
    """Who asks: environment variables with an API key, a token, or a name and its password."""

    api_key_env: _Variable | None = None
    """Sent as ``ApiKey …``, as Elasticsearch gives it: encoded"""
    bearer_env: _Variable | None = None
    """Sent as ``Bearer …``"""
    user_env: _Variable | None = None
    """Name for basic authentication"""
    password_env: _Variable | None = None
    """Of that user"""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        basic = self.user_env is not None and self.password_env is not None
        if (self.user_env is None) != (self.password_env is None):
            raise ValueError("user_env and password_env belong together")
        if [basic, self.api_key_env is not None, self.bearer_env is not None].count(True) != 1:
            raise ValueError("name one of api_key_env, bearer_env, or user_env with password_env")
        return self


class ExternalIndex(_Strict):
    """An index of OpenSearch or Elasticsearch. It is asked with every search, and nothing of it is kept here."""

    kind: Literal["opensearch", "elasticsearch"]
    """Whose query language it speaks"""
    url: Annotated[str, StringConstraints(max_length=2000), AfterValidator(_address)]
    """Where it listens"""
    index: str = Field(pattern=r"^[a-z0-9][a-z0-9._\-]{0,254}$")
    """One index or alias; no patterns"""
    auth: Credentials | None = None
    """Who asks; nobody in particular without it"""
    plain_http: bool = False
    """Send credentials over http://, which anybody on the way can read"""
    ca_file: Path | None = None
    """Certificates that the server's own is checked by, instead of the system's"""
    fields: FieldNames
    """What stands where"""
    vector: Vectors | None = None
    """Searched by meaning as well; by words only without it"""
    readers_map: Mapping[_Reader, tuple[_Label, ...]] = {}
    """Labels of the index for readers as they are called here; as they are called here when empty"""
    title_weight: float = Field(default=2.0, ge=0.1, le=100.0)
    """How much a word in the title counts against one in the text"""
    timeout_s: float = Field(default=5.0, gt=0, le=60.0)
    """Time for one question to the index"""
    max_response_bytes: int = Field(default=16 * MiB, ge=1024, le=256 * MiB)
    """Of one answer"""
    retries: int = Field(default=2, ge=0, le=5)
    """How often a question is asked again after 429, 502, 503, 504 or a connection that broke"""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.auth is not None and self.url.startswith("http://") and not self.plain_http:
            raise ValueError("credentials go over https:// only; say plain_http: true to send them readable by others")
        if self.vector is not None and self.kind == "opensearch" and self.vector.similarity == "dot_product":
            raise ValueError("vector.similarity: OpenSearch's innerproduct is called max_inner_product here")
        return self

    def based(self, base: Path) -> Self:
        """The same with a relative `ca_file` made absolute, starting at `base`."""
        if self.ca_file is None:
            return self
        return self.model_copy(update={"ca_file": Path(os.path.normpath(base.absolute() / self.ca_file.expanduser()))})

    def labels(self, readers: frozenset[str]) -> frozenset[str]:
        """What the index calls these readers."""
        if not self.readers_map:
            return readers
        return frozenset(label for reader in readers for label in self.readers_map.get(reader, ()))

    def readers(self, labels: frozenset[str]) -> frozenset[str]:
        """Whom a document with these labels lets read, as they are called here."""
        if not self.readers_map:
            return labels
        return frozenset(reader for reader, named in self.readers_map.items() if labels.intersection(named))
