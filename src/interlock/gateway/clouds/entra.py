"""Access tokens of Microsoft Entra by client credentials (RFC 6749 §4.4) or a machine's managed identity."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import quote, urlencode

from interlock.core.errors import Misconfigured, Unavailable
from interlock.gateway.clouds._call import call

__all__ = ["EntraTokens"]

_EARLY_S = 300.0
_INSTANCE = "http://169.254.169.254"


class EntraTokens:
    """Tokens for one resource, each used until five minutes before it expires.

    Args:
        scope: e.g. ``https://cognitiveservices.azure.com/.default``.
        secret: reads the client's secret; None asks the machine's managed identity.
        param: dotted name of the setting to name in errors.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        scope: str,
        tenant: str | None,
        client: str | None,
        secret: Callable[[], Awaitable[str]] | None,
        param: str,
    ) -> None:
        self._environ = environ
        self._scope = scope
        self._tenant = tenant
        self._client = client
        self._secret = secret
        self._param = param
        self._token: tuple[str, float] | None = None
        self._reading = asyncio.Lock()  # many first calls must not become many exchanges

    async def token(self) -> str:
        """A bearer token. May call the token endpoint. Raises: Misconfigured, Unavailable."""
        async with self._reading:
            if self._token is None or self._token[1] <= time.monotonic():
                self._token = await (self._by_secret() if self._secret else self._by_machine())
            return self._token[0]

    def forget(self) -> bool:
        """Fetch a new one next time; False when none was fetched yet."""
        had = self._token is not None
        self._token = None
        return had

    async def _by_secret(self) -> tuple[str, float]:
        assert self._secret is not None
        if not self._tenant or not self._client:
            raise Misconfigured("signing in by Entra needs a tenant and a client", param=self._param)
        host = (self._environ.get("AZURE_AUTHORITY_HOST") or "https://login.microsoftonline.com").rstrip("/")
        form = {
            "grant_type": "client_credentials",
            "client_id": self._client,
            "client_secret": await self._secret(),
            "scope": self._scope,
        }
        return await self._ask(
            "POST",
            f"{host}/{quote(self._tenant, safe='')}/oauth2/v2.0/token",
            headers={"content-type": "application/x-www-form-urlencoded"},
            body=urlencode(form).encode(),
        )

    async def _by_machine(self) -> tuple[str, float]:
        resource = self._scope.removesuffix("/.default")
        base = (self._environ.get("AZURE_POD_IDENTITY_AUTHORITY_HOST") or _INSTANCE).rstrip("/")
        query = {"api-version": "2018-02-01", "resource": resource}
        if self._client:
            query["client_id"] = self._client
        try:
            return await self._ask(
                "GET", f"{base}/metadata/identity/oauth2/token?{urlencode(query)}", headers={"metadata": "true"}
            )
        except Unavailable as error:
            raise Misconfigured(
                "no Azure credentials were found",
                param=self._param,
                hint="export AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET",
            ) from error

    async def _ask(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None
    ) -> tuple[str, float]:
        what = "Entra's token endpoint"
        answer = await call(method, url, what=what, headers=headers, body=body, timeout_s=5.0 if body else 2.0)
        if answer.status >= 500:
            raise Unavailable(f"{what} answered {answer.status}", code="secret_store_unavailable")
        if answer.status != 200:
            raise Misconfigured(f"{what} answered {answer.status}: the client was refused", param=self._param)
        try:
            found = answer.json(what)
            value, lasts_s = str(found["access_token"]), float(found.get("expires_in") or 3600)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise Unavailable(f"{what} sent no token", code="secret_store_unavailable") from error
        return value, time.monotonic() + max(lasts_s - _EARLY_S, 0.0)
