"""Provider keys by reference: where a key is stands in the settings, the key itself never does.

============================  =====================================================================
``env:NAME``                  environment variable
``file:/path``                file, e.g. a mounted secret
``vault:path#field``          HashiCorp Vault, KV version 2 (`VAULT_ADDR`, `VAULT_TOKEN` or AppRole)
``aws-sm:name#field``         AWS Secrets Manager; without ``#field`` the whole string
``azure-kv:vault/name``       Azure Key Vault
``gcp-sm:projects/P/secrets/S[/versions/V]``  Google Secret Manager
============================  =====================================================================

Environment and files are read at every call; the stores are asked again after a time to live, or at once when a
provider refuses the key. A value is held in memory only, and is in no message, log line or `repr`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from interlock.core.clock import now
from interlock.core.context import Context
from interlock.core.errors import Misconfigured, Unavailable
from interlock.gateway.settings import SECRET_STORES, ProviderSettings

__all__ = ["Keys", "SecretReader"]

_log = logging.getLogger("interlock.gateway")
_STALE_S = 30.0
"""How long a value past its time is still used before a store that is down is asked again."""


_LEAST_AGE_S = 0.5
"""A value younger than this is not read anew: a key that stays wrong must not become a flood of reads."""


_SLOW_S, _AWAY_S = 1.0, 10.0
"""A store that fails after more than the first is left alone for the second."""


class _Held(NamedTuple):
    value: str
    at: float
    until: float
    """`time.monotonic` seconds."""


class SecretReader:
    """Reads references.

    Args:
        environ: looked at before the process's own environment.
        ttl_s: how long a value from a store is used, in seconds.
    """

    def __init__(self, environ: Mapping[str, str], *, ttl_s: float = 300.0) -> None:
        self._environ = {**os.environ, **environ}
        self._given = environ
        self._ttl_s = ttl_s
        self._held: dict[str, _Held] = {}
        self._away: dict[str, tuple[float, Unavailable]] = {}
        """Until when a store that took long to fail is not asked again, and how it failed."""
        self._reading: dict[str, asyncio.Lock] = {}
        """A reference that many calls want at once is asked for once."""

    def __repr__(self) -> str:
        return f"SecretReader({len(self._held)} held)"

    async def read(self, reference: str, *, param: str) -> str:
        """The secret behind `reference`.

        Args:
            param: dotted name of the setting that holds the reference, for errors.

        Raises: Misconfigured: not there; Unavailable: the store is down or refuses the login, and no value is held.
        """
        store, _, place = reference.partition(":")
        if store == "env":
            return self._environment(place, param)
        if store == "file":
            return _file(place, param)
        async with self._reading.setdefault(reference, asyncio.Lock()):
            return await self._stored(reference, param)

    async def _stored(self, reference: str, param: str) -> str:
        store, _, place = reference.partition(":")
        held, began = self._held.get(reference), time.monotonic()
        if held is not None and held.until > began:
            return held.value
        away = self._away.get(reference)
        if held is None and away is not None and away[0] > began:
            raise Unavailable(away[1].message, code=away[1].code, hint=away[1].hint)
        try:
            value = await self._ask(store, place, param)
        except Unavailable as error:
            if held is None:
                if time.monotonic() - began > _SLOW_S:
                    # One that hangs would hold up each try of every call for as long again.
                    self._away[reference] = (time.monotonic() + _AWAY_S, error)
                raise
            # An outage of the store, or a login to it that has run out, is no outage of the provider: the last value is
            # most likely still good.
            _log.warning("the secret of %s cannot be read anew, and the one held is used on: %s", param, error.message)
            self._held[reference] = held._replace(until=time.monotonic() + _STALE_S)
            return held.value
        self._held[reference] = _Held(value, time.monotonic(), time.monotonic() + self._ttl_s)
        return value

    def forget(self) -> bool:
        """Ask the stores again next time; False when nothing was held, or it was read just now.

        Values stay for the case that a store is away: of several keys only one was refused, and nobody says which.
        """
        at = time.monotonic()
        old = {reference: held for reference, held in self._held.items() if held.at <= at - _LEAST_AGE_S}
        self._held |= {reference: held._replace(until=0.0) for reference, held in old.items()}
        return bool(old)

    def _environment(self, name: str, param: str) -> str:
        value = self._given.get(name) or os.environ.get(name)
        if not value:
            raise Misconfigured("there is no key in the environment", param=param, hint=f"export {name}=…")
        return value

    async def _ask(self, store: str, place: str, param: str) -> str:
        path, _, field = place.partition("#")
        match store:
            case "vault":
                return await self._vault(path, field or "value", param)
            case "aws-sm":
                return await self._aws(path, field, param)
            case "azure-kv":
                return await self._azure(path, param)
            case "gcp-sm":
                return await self._google(path, param)
        raise Misconfigured("a secret is named by reference", param=param, hint=", ".join(SECRET_STORES))

    async def _vault(self, path: str, field: str, param: str) -> str:
        from interlock.gateway.clouds._call import call

        env = self._environ
        address = (env.get("VAULT_ADDR") or "").rstrip("/")
        if not address:
            raise Misconfigured("the address of Vault is not known", param=param, hint="export VAULT_ADDR=https://…")
        headers = {"x-vault-request": "true"}
        if namespace := env.get("VAULT_NAMESPACE"):
            headers["x-vault-namespace"] = namespace
        token = env.get("VAULT_TOKEN")
        if not token:
            if not env.get("VAULT_ROLE_ID"):
                raise Misconfigured(
                    "there is no login for Vault",
                    param=param,
                    hint="export VAULT_TOKEN=…, or VAULT_ROLE_ID and _SECRET_ID",
                )
            login = {"role_id": env["VAULT_ROLE_ID"], "secret_id": env.get("VAULT_SECRET_ID") or ""}
            answer = await call(
                "POST",
                f"{address}/v1/auth/approle/login",
                what="Vault",
                headers=headers,
                body=json.dumps(login).encode(),
            )
            if answer.status == 400:
                # So it says that a role or its secret id is not, or no longer, good.
                raise _login_refused("Vault", 400)
            token = _string(_checked(answer.status, "Vault", param, answer.json)["auth"], "client_token", param)
        mount, _, rest = path.strip("/").partition("/")
        url = f"{address}/v1/{quote(mount)}/data/{quote(rest)}"
        answer = await call("GET", url, what="Vault", headers={**headers, "x-vault-token": token})
        found = _checked(answer.status, "Vault", param, answer.json)
        return _string(_inner(_inner(found, "data", param), "data", param), field, param)

    async def _aws(self, name: str, field: str, param: str) -> str:
        from interlock.gateway.clouds._call import call
        from interlock.gateway.clouds.aws import AwsCredentials, region_of
        from interlock.gateway.clouds.sigv4 import sign

        env = self._environ
        # The region stands in an ARN: arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME.
        region = name.split(":")[3] if name.startswith("arn:") and name.count(":") >= 6 else region_of(env)
        if not region:
            raise Misconfigured("the AWS region is not known", param=param, hint="export AWS_REGION=…")
        keys = await AwsCredentials(env, param=param, region=region).keys()
        url = (
            env.get("AWS_ENDPOINT_URL_SECRETS_MANAGER")
            or env.get("AWS_ENDPOINT_URL")
            or f"https://secretsmanager.{region}.amazonaws.com"
        ).rstrip("/") + "/"
        body = json.dumps({"SecretId": name}).encode()
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": "secretsmanager.GetSecretValue"}
        signed = sign(
            "POST", url, headers=headers, body=body, keys=keys, region=region, service="secretsmanager", at=now()
        )
        what = "AWS Secrets Manager"
        answer = await call("POST", url, what=what, headers={**headers, **signed}, body=body)
        text = _string(_checked(answer.status, what, param, answer.json), "SecretString", param)
        if not field:
            return text
        try:
            found = json.loads(text)
        except ValueError:
            # Not chained: the parser's error holds the secret.
            raise Misconfigured("the secret is no JSON object: name it without '#field'", param=param) from None
        return _string(found, field, param)

    async def _azure(self, place: str, param: str) -> str:
        from interlock.gateway.clouds._call import call
        from interlock.gateway.clouds.entra import EntraTokens

        env = self._environ
        vault, _, name = place.rpartition("/")
        base = vault.rstrip("/") if vault.startswith("https://") else f"https://{vault}.vault.azure.net"
        if override := env.get("INTERLOCK_AZURE_VAULT_URL"):
            base = override.rstrip("/")

        async def secret() -> str:
            return env["AZURE_CLIENT_SECRET"]

        tokens = EntraTokens(
            env,
            scope="https://vault.azure.net/.default",
            tenant=env.get("AZURE_TENANT_ID"),
            client=env.get("AZURE_CLIENT_ID"),
            secret=secret if env.get("AZURE_CLIENT_SECRET") else None,
            param=param,
        )
        headers = {"authorization": f"Bearer {await tokens.token()}"}
        url = f"{base}/secrets/{quote(name, safe='')}?api-version=7.4"
        what = "Azure Key Vault"
        answer = await call("GET", url, what=what, headers=headers)
        return _string(_checked(answer.status, what, param, answer.json), "value", param)

    async def _google(self, place: str, param: str) -> str:
        from interlock.gateway.clouds._call import call
        from interlock.gateway.clouds.google import GoogleTokens

        env = self._environ
        token = await GoogleTokens(env, param=param).token()
        base = env.get("CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER") or "https://secretmanager.googleapis.com/"
        version = place if "/versions/" in place else f"{place}/versions/latest"
        what = "Google Secret Manager"
        answer = await call(
            "GET",
            f"{base.rstrip('/')}/v1/{quote(version, safe='/')}:access",
            what=what,
            headers={"authorization": f"Bearer {token}"},
        )
        data = _string(_inner(_checked(answer.status, what, param, answer.json), "payload", param), "data", param)
        try:
            return base64.b64decode(data, validate=True).decode().strip()
        except (binascii.Error, UnicodeDecodeError):
            raise Misconfigured("the secret is no text", param=param) from None


def _file(path: str, param: str) -> str:
    try:
        return Path(path).expanduser().read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise Misconfigured(f"a key file cannot be read: {reason}", param=param) from None


# Any below: decoded JSON of a foreign service, narrowed step by step.
def _checked(status: int, what: str, param: str, decode: Any) -> Any:
    if status == 429 or status >= 500:
        raise Unavailable(f"{what} answered {status}", code="secret_store_unavailable")
    if status in {401, 403}:
        raise _login_refused(what, status)
    if status != 200:
        raise Misconfigured(
            f"{what} answered {status}", param=param, hint="check the reference and what the login may read"
        )
    found = decode(what)
    if not isinstance(found, dict):
        raise Unavailable(f"{what} sent an answer of another shape", code="secret_store_unavailable")
    return found


def _login_refused(what: str, status: int) -> Unavailable:
    return Unavailable(
        f"{what} answered {status}: the login has run out, or may not read this",
        code="secret_store_refused",
        hint="renew the login, as VAULT_TOKEN, and check the reference and what the login may read",
    )


def _inner(found: Any, name: str, param: str) -> Any:
    value = found.get(name)
    if not isinstance(value, dict):
        raise Misconfigured("the secret is not there, or of another shape", param=param)
    return value


def _string(found: Any, name: str, param: str) -> str:
    value = found.get(name) if isinstance(found, dict) else None
    if not isinstance(value, str) or not value:
        raise Misconfigured("the secret has no such field, or it is no text", param=param, hint="name it: …#field")
    return value.strip()


class Keys:
    """The keys of one provider: its own, and those of tenants that bring theirs.

    Args:
        name: the configured provider, for messages.
    """

    def __init__(self, name: str, settings: ProviderSettings, environ: Mapping[str, str]) -> None:
        self._name = name
        self._settings = settings
        self._environ = environ
        self._reader = SecretReader(environ, ttl_s=settings.key_ttl_s)

    def __repr__(self) -> str:
        return f"Keys({self._name!r})"

    @property
    def configured(self) -> bool:
        """True when a key of the provider itself is named."""
        return bool(self._settings.key or self._settings.api_key_file or self._settings.api_key_env)

    async def key(self, ctx: Context | None) -> str | None:
        """The key to call with for `ctx.tenant`; None when none is configured.

        Raises: Misconfigured: configured, but not there; Unavailable: its store is down.
        """
        settings = self._settings
        setting = f"gateway.providers.{self._name}"
        if ctx is not None and (reference := settings.tenant_keys.get(ctx.tenant)):
            return await self.read(reference, param=f"{setting}.tenant_keys.{ctx.tenant}")
        if settings.key:
            return await self.read(settings.key, param=f"{setting}.key")
        if settings.api_key_file:
            return await self.read(f"file:{settings.api_key_file}", param=f"{setting}.api_key_file")
        if settings.api_key_env:
            return await self.read(f"env:{settings.api_key_env}", param=f"{setting}.api_key_env")
        return None

    async def read(self, reference: str, *, param: str) -> str:
        """Any secret of this provider, with the provider's name in the errors."""
        try:
            return await self._reader.read(reference, param=param)
        except Misconfigured as error:
            raise Misconfigured(
                f"provider {self._name!r} has no key: {error.message}", param=error.param, hint=error.hint
            ) from error
        except Unavailable as error:
            raise Unavailable(
                f"the key of provider {self._name!r} cannot be read: {error.message}", code=error.code, hint=error.hint
            ) from error

    def forget(self) -> bool:
        """Ask the stores again next time; False when that would change nothing."""
        return self._reader.forget()
