"""Section `observe` of `interlock.yaml`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ObserveSettings"]


class ObserveSettings(BaseModel):
    """Where spans go besides the events store."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    otlp_endpoint: str | None = Field(default=None, description="OTLP/HTTP base address, e.g. http://127.0.0.1:4318")
    otlp_headers_env: str | None = Field(
        default=None, description="environment variable with 'name=value,name=value' headers for the collector"
    )
    openlineage_url: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="takes OpenLineage run events, e.g. http://127.0.0.1:5000/api/v1/lineage",
    )
    openlineage_token_env: str | None = Field(
        default=None, description="environment variable with the bearer token for it"
    )
    retention_days: int = Field(default=30, ge=1, le=3650, description="how long spans are kept")
