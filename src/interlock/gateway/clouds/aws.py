"""Where AWS credentials come from, in the order AWS's own tools look.

Environment, shared credentials file, web identity (EKS), container endpoint (ECS, EKS Pod Identity), instance metadata
(EC2, IMDSv2 only). Temporary ones are used until five minutes before they expire. Source: "Standardized credential
providers", AWS SDKs and tools reference guide.
"""

from __future__ import annotations

import asyncio
import configparser
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from interlock.core.clock import now
from interlock.core.errors import Misconfigured, Unavailable
from interlock.gateway.clouds._call import call
from interlock.gateway.clouds.sigv4 import AwsKeys

__all__ = ["AwsCredentials", "region_of"]

_EARLY = timedelta(minutes=5)
_CONTAINER = "http://169.254.170.2"
_INSTANCE = "http://169.254.169.254"
_CONTAINER_HOSTS = {"169.254.170.2", "169.254.170.23", "fd00:ec2::23", "localhost", "127.0.0.1", "::1"}


def region_of(environ: Mapping[str, str]) -> str | None:
    """The region that the environment names."""
    return environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or None


class AwsCredentials:
    """Keys of this machine's principal, read anew before they expire.

    Args:
        profile: section of the shared credentials file; given, nothing but that file is read.
        param: dotted name of the setting to name in errors.
    """

    def __init__(self, environ: Mapping[str, str], *, profile: str | None = None, param: str, region: str) -> None:
        self._environ = environ
        self._profile = profile
        self._param = param
        self._region = region
        self._keys: AwsKeys | None = None
        self._reading = asyncio.Lock()  # many first calls must not become many reads of a metadata endpoint

    async def keys(self) -> AwsKeys:
        """Credentials to sign with. May read files and call metadata endpoints. Raises: Misconfigured, Unavailable."""
        async with self._reading:
            known = self._keys
            if known is None or (known.expires_at is not None and known.expires_at - _EARLY <= now()):
                self._keys = known = await self._read()
            return known

    def forget(self) -> bool:
        """Read them anew next time; False when none were read yet."""
        had = self._keys is not None
        self._keys = None
        return had

    async def _read(self) -> AwsKeys:
        env = self._environ
        if not self._profile and env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY"):
            return AwsKeys(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env.get("AWS_SESSION_TOKEN") or None)
        if found := self._from_file():
            return found
        if not self._profile:
            if env.get("AWS_WEB_IDENTITY_TOKEN_FILE") and env.get("AWS_ROLE_ARN"):
                return await self._from_web_identity()
            if env.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") or env.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
                return await self._from_container()
            if env.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true" and (found := await self._from_instance()):
                return found
        raise Misconfigured(
            "no AWS credentials were found",
            param=self._param,
            hint="export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run: aws configure",
        )

    def _from_file(self) -> AwsKeys | None:
        home = self._environ.get("HOME") or "~"
        path = Path(self._environ.get("AWS_SHARED_CREDENTIALS_FILE") or f"{home}/.aws/credentials").expanduser()
        section = self._profile or self._environ.get("AWS_PROFILE") or "default"
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, configparser.Error):
            return None
        if not parser.has_option(section, "aws_access_key_id") or not parser.has_option(
            section, "aws_secret_access_key"
        ):
            return None
        return AwsKeys(
            parser.get(section, "aws_access_key_id"),
            parser.get(section, "aws_secret_access_key"),
            parser.get(section, "aws_session_token", fallback=None),
        )

    async def _from_web_identity(self) -> AwsKeys:
        try:
            token = Path(self._environ["AWS_WEB_IDENTITY_TOKEN_FILE"]).read_text("utf-8").strip()
        except OSError as error:
            raise Misconfigured(
                f"the web identity token cannot be read: {error.strerror}", param=self._param
            ) from error
        form = {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": self._environ["AWS_ROLE_ARN"],
            "RoleSessionName": self._environ.get("AWS_ROLE_SESSION_NAME") or "interlock",
            "WebIdentityToken": token,
        }
        url = self._environ.get("AWS_ENDPOINT_URL_STS") or f"https://sts.{self._region}.amazonaws.com"
        answer = await call(
            "POST",
            url,
            what="AWS STS",
            headers={"accept": "application/json", "content-type": "application/x-www-form-urlencoded"},
            body=urlencode(form).encode(),
        )
        if answer.status != 200:
            raise self._refused("AWS STS", answer.status)
        try:
            row = answer.json("AWS STS")["AssumeRoleWithWebIdentityResponse"]["AssumeRoleWithWebIdentityResult"]
            found = row["Credentials"]
            expires = datetime.fromtimestamp(float(found["Expiration"]), tz=now().tzinfo)
            return AwsKeys(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"], expires)
        except (KeyError, TypeError, ValueError) as error:
            raise Unavailable("AWS STS sent no credentials", code="secret_store_unavailable") from error

    async def _from_container(self) -> AwsKeys:
        url = self._environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI") or ""
        if relative := self._environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
            url = _CONTAINER + relative
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in _CONTAINER_HOSTS:
            # AWS's own tools refuse it too: the token must not leave the machine in the clear.
            raise Misconfigured("the container credentials are at a foreign address", param=self._param)
        headers: dict[str, str] = {}
        token = self._environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN") or ""
        if file := self._environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
            try:
                token = Path(file).read_text("utf-8").strip()
            except OSError as error:
                raise Misconfigured(f"the container token cannot be read: {error.strerror}", param=self._param) from (
                    error
                )
        if token:
            headers["authorization"] = token
        answer = await call("GET", url, what="the container's credentials endpoint", headers=headers, timeout_s=2.0)
        if answer.status != 200:
            raise self._refused("the container's credentials endpoint", answer.status)
        return _temporary(answer.json("the container's credentials endpoint"))

    async def _from_instance(self) -> AwsKeys | None:
        base = (self._environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or _INSTANCE).rstrip("/")
        what = "the instance metadata"
        try:
            token = await call(
                "PUT",
                f"{base}/latest/api/token",
                what=what,
                headers={"x-aws-ec2-metadata-token-ttl-seconds": "300"},
                timeout_s=1.0,
            )
        except Unavailable:
            # Not on EC2.
            return None
        if token.status != 200:
            return None
        headers = {"x-aws-ec2-metadata-token": token.body.decode("latin-1").strip()}
        listing = f"{base}/latest/meta-data/iam/security-credentials/"
        roles = await call("GET", listing, what=what, headers=headers, timeout_s=1.0)
        if roles.status != 200 or not roles.body.strip():
            return None
        role = quote(roles.body.decode("utf-8", "replace").split("\n")[0].strip(), safe="")
        answer = await call("GET", listing + role, what=what, headers=headers, timeout_s=1.0)
        if answer.status != 200:
            raise self._refused(what, answer.status)
        return _temporary(answer.json(what))

    def _refused(self, what: str, status: int) -> Misconfigured | Unavailable:
        if status >= 500:
            return Unavailable(f"{what} answered {status}", code="secret_store_unavailable")
        return Misconfigured(f"{what} answered {status}", param=self._param)


def _temporary(found: Any) -> AwsKeys:
    try:
        expires = datetime.fromisoformat(found["Expiration"]) if found.get("Expiration") else None
        return AwsKeys(found["AccessKeyId"], found["SecretAccessKey"], found.get("Token"), expires)
    except (AttributeError, KeyError, TypeError, ValueError, json.JSONDecodeError) as error:
        raise Unavailable("an AWS endpoint sent no credentials", code="secret_store_unavailable") from error
