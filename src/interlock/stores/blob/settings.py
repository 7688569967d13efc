"""Section `stores.s3`: how a bucket is reached."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["S3Settings"]

_ENV = r"^$|^[A-Za-z_][A-Za-z0-9_]{0,127}$"


class S3Settings(BaseModel):
    """Of the bucket that `stores.blobs` names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: str = Field(
        default="",
        pattern=r"^$|^https?://[^\s/@?#]+$",
        description="address of the server, as https://s3.example.org; empty: Amazon's of the region",
    )
    region: str = Field(
        default="us-east-1", min_length=1, max_length=64, description="region that requests are signed for"
    )
    access_key_env: str = Field(
        default="",
        pattern=_ENV,
        description="environment variable with the access key's id; empty: what Amazon's own tools would take",
    )
    secret_key_env: str = Field(
        default="", pattern=_ENV, description="environment variable with the access key's secret"
    )
    session_token_env: str = Field(
        default="", pattern=_ENV, description="environment variable with the token of a temporary key"
    )
    virtual_host: bool = Field(default=False, description="put the bucket into the host's name, not into the path")
