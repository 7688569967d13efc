"""Four ways to prove who is calling: a key in a header, a token of Google's, of Entra's, a signature of AWS's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from interlock.core.clock import now
from interlock.core.context import Context
from interlock.gateway.clouds.aws import AwsCredentials
from interlock.gateway.clouds.entra import EntraTokens
from interlock.gateway.clouds.google import GoogleTokens
from interlock.gateway.clouds.sigv4 import sign
from interlock.gateway.http import Outgoing, Signer
from interlock.gateway.secrets import Keys

__all__ = ["AwsSigner", "EntraSigner", "GoogleSigner", "KeySigner"]


class KeySigner:
    """A key in a header; no header where no key is configured.

    Args:
        before: stands before the key, e.g. ``Bearer ``.
        otherwise: signs where there is no key: some tenants have one, the others use the provider's own login.
    """

    def __init__(
        self,
        keys: Keys,
        header: str = "authorization",
        before: str = "Bearer ",
        *,
        otherwise: Signer | None = None,
    ) -> None:
        self._keys = keys
        self._header = header
        self._before = before
        self._otherwise = otherwise

    async def headers(self, ctx: Context | None, call: Outgoing) -> Mapping[str, str]:
        """See :class:`interlock.gateway.http.Signer`."""
        if self._header in {name.lower() for name in call.headers}:
            return {}
        key = await self._keys.key(ctx)
        if key is None and self._otherwise is not None:
            return await self._otherwise.headers(ctx, call)
        return {self._header: self._before + key} if key else {}

    def forget(self, status: int) -> bool:
        """See :class:`interlock.gateway.http.Signer`."""
        anew = self._otherwise is not None and self._otherwise.forget(status)
        return (status == 401 and self._keys.forget()) or anew


class GoogleSigner:
    """A bearer token of Google Cloud. A tenant's own key is the JSON of its service account.

    Args:
        reference: of the credentials' JSON; None takes the default ones.
        param: dotted name of the setting to name in errors.
    """

    def __init__(self, keys: Keys, environ: Mapping[str, str], *, reference: str | None, param: str) -> None:
        self._keys = keys
        self._environ = environ
        self._reference = reference
        self._param = param
        self._tokens: dict[str | None, GoogleTokens] = {}
        """By the credentials' JSON; None for the default ones."""

    async def headers(self, ctx: Context | None, call: Outgoing) -> Mapping[str, str]:
        """See :class:`interlock.gateway.http.Signer`."""
        return {"authorization": f"Bearer {await (await self._of(ctx)).token()}"}

    async def check(self) -> None:
        """Look whether the gateway's own credentials are there and whole. Raises: Misconfigured."""
        (await self._of(None)).check()

    async def _of(self, ctx: Context | None) -> GoogleTokens:
        document = await self._keys.key(ctx)
        if document is None and self._reference:
            document = await self._keys.read(self._reference, param=self._param)
        if document not in self._tokens:
            self._tokens[document] = GoogleTokens(self._environ, document=document, param=self._param)
        return self._tokens[document]

    def forget(self, status: int) -> bool:
        """See :class:`interlock.gateway.http.Signer`."""
        if status != 401:
            return False
        changed = self._keys.forget()
        had = [tokens.forget() for tokens in self._tokens.values()]
        self._tokens = {}
        return changed or any(had)


class EntraSigner:
    """A bearer token of Microsoft Entra."""

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
        self._tokens = EntraTokens(environ, scope=scope, tenant=tenant, client=client, secret=secret, param=param)

    async def headers(self, ctx: Context | None, call: Outgoing) -> Mapping[str, str]:
        """See :class:`interlock.gateway.http.Signer`."""
        return {"authorization": f"Bearer {await self._tokens.token()}"}

    def forget(self, status: int) -> bool:
        """See :class:`interlock.gateway.http.Signer`."""
        return status == 401 and self._tokens.forget()


class AwsSigner:
    """AWS Signature Version 4 over the whole request."""

    def __init__(self, credentials: AwsCredentials, *, region: str, service: str) -> None:
        self._credentials = credentials
        self._region = region
        self._service = service

    async def headers(self, ctx: Context | None, call: Outgoing) -> Mapping[str, str]:
        """See :class:`interlock.gateway.http.Signer`."""
        signed = {name: value for name, value in call.headers.items() if name.lower() == "content-type"}
        return sign(
            call.method,
            call.url,
            headers=signed,
            body=call.body,
            keys=await self._credentials.keys(),
            region=self._region,
            service=self._service,
            at=now(),
        )

    def forget(self, status: int) -> bool:
        """Temporary credentials that ran out are refused with 403. See :class:`interlock.gateway.http.Signer`."""
        return status in {401, 403} and self._credentials.forget()
