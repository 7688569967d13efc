"""What sources that are HTTP APIs share: their address, their token, and how an `Api` is made of them."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar
from urllib.parse import urlencode

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from interlock.core.errors import Misconfigured, Unavailable
from interlock.knowledge.connectors._http import Answer, Api, Credentials, NoCredentials, checked_url
from interlock.knowledge.ports import Surroundings
from interlock.knowledge.sources import Source

__all__ = ["ApiSource", "EnvName", "OAuth", "Url", "api_of", "secret"]

Url = Annotated[str, AfterValidator(checked_url)]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
_EARLY_S = 60.0
_MOST_TOKEN = 100_000


class OAuth(BaseModel):
    """Where short-lived tokens come from (RFC 6749): by a refresh token when one is named, else by the client."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token_url: Url
    """The authorisation server's token endpoint"""
    client_id_env: EnvName
    """Environment variable with the client's id"""
    client_secret_env: EnvName
    """Environment variable with the client's secret"""
    refresh_token_env: EnvName | None = None
    """Environment variable with a refresh token"""
    scope: str = ""
    """Scopes to ask for, parted by blanks"""


class ApiSource(Source):
    """A source behind an HTTP API."""

    url: Url
    """The address of the service"""
    token_env: EnvName | None = None
    """Environment variable with the token; never the token itself"""
    user_env: EnvName | None = None
    """Environment variable with the user's name, for services that want name and token (Basic)"""
    oauth: OAuth | None = None
    """Where short-lived tokens come from, instead of `token_env`"""
    allow_private: bool = False
    """Let the address be one of a private network"""
    timeout_s: float = Field(default=30.0, gt=0, le=600)
    """Wait for a connection, and for each piece of an answer, in seconds"""

    needs_token: ClassVar[bool] = True
    """Whether there is nothing to see without a token."""

    def place(self) -> str:
        """Its address."""
        return self.url


def secret(environ: Mapping[str, str], name: str, kind: str) -> str:
    """A secret from the environment. Raises: Misconfigured: it is not there."""
    value = environ.get(name, "").strip()
    if not value or "\n" in value or "\r" in value:
        raise Misconfigured(
            f"the environment variable {name!r} that a {kind} source names is not set",
            param=name,
            hint="set it for the process that ingests",
        )
    return value


class _Bearer:
    """A token from the environment; after a refusal it is read again, as it may have been replaced."""

    def __init__(self, source: ApiSource, environ: Mapping[str, str], name: str) -> None:
        self._environ, self._name, self._kind = environ, name, source.kind
        self._user = source.user_env
        self._token = self._read()

    def _read(self) -> str:
        token = secret(self._environ, self._name, self._kind)
        if self._user is None:
            return f"Bearer {token}"
        user = secret(self._environ, self._user, self._kind)
        return "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode()

    async def headers(self) -> Mapping[str, str]:
        return {"authorization": self._token}

    async def renew(self) -> bool:
        before, self._token = self._token, self._read()
        return self._token != before


class _OAuthToken:
    """A token from an authorisation server, taken when needed and again shortly before its end or after a refusal."""

    def __init__(self, source: ApiSource, oauth: OAuth, surroundings: Surroundings) -> None:
        self._oauth, self._kind = oauth, source.kind
        self._environ = surroundings.environ
        for name in filter(None, (oauth.client_id_env, oauth.client_secret_env, oauth.refresh_token_env)):
            secret(self._environ, name, self._kind)
        self._source = source
        self._token = ""
        self._until = 0.0
        self._refresh = ""

    async def headers(self) -> Mapping[str, str]:
        if not self._token or time.monotonic() >= self._until:
            await self._get()
        return {"authorization": f"Bearer {self._token}"}

    async def renew(self) -> bool:
        await self._get()
        return True

    async def _get(self) -> None:
        oauth = self._oauth
        form = {
            "client_id": secret(self._environ, oauth.client_id_env, self._kind),
            "client_secret": secret(self._environ, oauth.client_secret_env, self._kind),
            "grant_type": "client_credentials",
        }
        if oauth.refresh_token_env is not None:
            # A server may give a new refresh token with every answer; the old one is then of no use.
            token = self._refresh or secret(self._environ, oauth.refresh_token_env, self._kind)
            form |= {"grant_type": "refresh_token", "refresh_token": token}
        if oauth.scope:
            form["scope"] = oauth.scope
        source = self._source
        api = Api(
            f"the token endpoint of a {source.kind} source",
            oauth.token_url,
            NoCredentials(),
            max_bytes=_MOST_TOKEN,
            allow_private=source.allow_private,
            timeout_s=source.timeout_s,
        )
        try:
            headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
            body = urlencode(form).encode()
            answer = await api.ask(oauth.token_url, method="POST", body=body, headers=headers, most=_MOST_TOKEN)
            api.must_be_good(answer)
        finally:
            await api.aclose()
        try:
            given: dict[str, Any] = json.loads(answer.body)  # Any: a foreign answer, checked below
            token, lasts = str(given["access_token"]), float(given.get("expires_in", 3600))
        except (ValueError, KeyError, TypeError) as error:
            raise Unavailable("the token endpoint sent no token", code="source_unreachable") from error
        self._token, self._until = token, time.monotonic() + max(0.0, lasts - _EARLY_S)
        self._refresh = str(given.get("refresh_token") or self._refresh)


def api_of(
    source: ApiSource,
    surroundings: Surroundings,
    what: str,
    *,
    trusted: Sequence[str] = (),
    meant: Callable[[Answer], int] | None = None,
) -> Api:
    """Open the API of a source. Raises: Misconfigured: its token is not in the environment."""
    credentials: Credentials
    if source.oauth is not None:
        credentials = _OAuthToken(source, source.oauth, surroundings)
    elif source.token_env is not None:
        credentials = _Bearer(source, surroundings.environ, source.token_env)
    elif source.needs_token:
        raise Misconfigured(
            f"a {source.kind} source needs token_env or oauth",
            param="sources.token_env",
            hint="see docs/how-to/sources.md",
        )
    else:
        credentials = NoCredentials()
    return Api(
        what,
        source.url,
        credentials,
        max_bytes=surroundings.max_bytes,
        allow_private=source.allow_private,
        timeout_s=source.timeout_s,
        trusted=trusted,
        meant=meant,
    )
