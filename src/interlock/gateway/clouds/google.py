"""Access tokens of Google Cloud: service account, authorised user, metadata server.

A service account's key signs a JWT that is exchanged for a token (RFC 7523); an authorised user's refresh token is
exchanged (RFC 6749 §6). Source: "Using OAuth 2.0 for server to server applications", Google identity docs.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from interlock.core.errors import Misconfigured, Unavailable
from interlock.gateway.clouds._call import Answer, call

__all__ = ["GoogleTokens", "default_file"]

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_TOKEN_URI = "https://oauth2.googleapis.com/token"
_EARLY_S = 300.0


class _Token(NamedTuple):
    value: str
    until: float
    """`time.monotonic` seconds."""


def default_file(environ: Mapping[str, str]) -> Path | None:
    """The application default credentials file, None when there is none."""
    if named := environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return Path(named).expanduser()
    folder = environ.get("CLOUDSDK_CONFIG") or f"{environ.get('HOME') or '~'}/.config/gcloud"
    file = Path(folder).expanduser() / "application_default_credentials.json"
    return file if file.exists() else None


_USER_FIELDS = ("client_id", "client_secret", "refresh_token")


class GoogleTokens:
    """Tokens of one identity, each used until five minutes before it expires.

    Args:
        document: the JSON of the credentials; None takes the default file, else the metadata server.
        param: dotted name of the setting to name in errors.
    """

    def __init__(self, environ: Mapping[str, str], *, document: str | None = None, param: str) -> None:
        self._environ = environ
        self._document = document
        self._param = param
        self._token: _Token | None = None
        self._reading = asyncio.Lock()  # many first calls must not become many exchanges

    async def token(self) -> str:
        """A bearer token. May call Google's token endpoint. Raises: Misconfigured, Unavailable."""
        async with self._reading:
            if self._token is None or self._token.until <= time.monotonic():
                self._token = await self._exchange()
            return self._token.value

    def forget(self) -> bool:
        """Fetch a new one next time; False when none was fetched yet."""
        had = self._token is not None
        self._token = None
        return had

    def check(self) -> None:
        """Look whether the credentials can be read and are whole. Calls nobody. Raises: Misconfigured."""
        found = self._credentials()
        if found is None:
            # The machine's own account, which only its metadata server knows.
            return
        if found.get("type") == "service_account":
            self._assertion(found)
        elif found.get("type") != "authorized_user":
            raise self._strange()
        elif not all(found.get(name) for name in _USER_FIELDS):
            raise self._incomplete()

    async def _exchange(self) -> _Token:
        found = self._credentials()
        if found is None:
            return await self._from_metadata()
        kind = found.get("type")
        if kind == "service_account":
            return await self._from_form(
                str(found.get("token_uri") or _TOKEN_URI),
                {
                    "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
                    "assertion": self._assertion(found),
                },
            )
        if kind == "authorized_user":
            try:
                form = {name: str(found[name]) for name in _USER_FIELDS}
            except KeyError as error:
                raise self._incomplete() from error
            return await self._from_form(
                str(found.get("token_uri") or _TOKEN_URI), {"grant_type": "refresh_token", **form}
            )
        raise self._strange()

    def _strange(self) -> Misconfigured:
        return Misconfigured(
            "these Google credentials are of a kind that is not read here",
            param=self._param,
            hint="use a service account's key, `gcloud auth application-default login`, or a machine's own account",
        )

    # Any: a decoded JSON file, narrowed field by field.
    def _credentials(self) -> dict[str, Any] | None:
        text = self._document
        if text is None:
            path = default_file(self._environ)
            if path is None:
                return None
            try:
                text = path.read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise Misconfigured("the Google credentials file cannot be read", param=self._param) from error
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            # Not chained: the parser's error holds the document.
            raise Misconfigured("the Google credentials are no JSON object", param=self._param)
        return found

    def _assertion(self, found: Mapping[str, Any]) -> str:
        import jwt

        at = int(time.time())
        try:
            claims = {
                "iss": found["client_email"],
                "scope": _SCOPE,
                "aud": found.get("token_uri") or _TOKEN_URI,
                "iat": at,
                "exp": at + 3600,
            }
            headers = {"kid": str(found["private_key_id"])} if found.get("private_key_id") else None
            return jwt.encode(claims, found["private_key"], algorithm="RS256", headers=headers)
        except (KeyError, ValueError, TypeError, jwt.PyJWTError):
            # Not chained: the error may quote the key.
            raise self._incomplete() from None

    def _incomplete(self) -> Misconfigured:
        return Misconfigured("the Google credentials are incomplete or their key cannot be read", param=self._param)

    async def _from_form(self, url: str, form: Mapping[str, str]) -> _Token:
        answer = await call(
            "POST",
            url,
            what="Google's token endpoint",
            headers={"content-type": "application/x-www-form-urlencoded"},
            body=urlencode(form).encode(),
        )
        return self._read(answer, "Google's token endpoint")

    async def _from_metadata(self) -> _Token:
        host = self._environ.get("GCE_METADATA_HOST") or "metadata.google.internal"
        url = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token"
        try:
            answer = await call(
                "GET", url, what="the metadata server", headers={"metadata-flavor": "Google"}, timeout_s=2.0
            )
        except Unavailable as error:
            raise Misconfigured(
                "no Google credentials were found",
                param=self._param,
                hint="export GOOGLE_APPLICATION_CREDENTIALS=key.json, or run: gcloud auth application-default login",
            ) from error
        return self._read(answer, "the metadata server")

    def _read(self, answer: Answer, what: str) -> _Token:
        if answer.status >= 500:
            raise Unavailable(f"{what} answered {answer.status}", code="secret_store_unavailable")
        if answer.status != 200:
            raise Misconfigured(f"{what} answered {answer.status}: the credentials were refused", param=self._param)
        try:
            found = answer.json(what)
            lasts_s = float(found.get("expires_in") or 3600)
            value = str(found["access_token"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise Unavailable(f"{what} sent no token", code="secret_store_unavailable") from error
        return _Token(value, time.monotonic() + max(lasts_s - _EARLY_S, 0.0))
