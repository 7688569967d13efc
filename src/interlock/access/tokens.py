"""On-behalf-of tokens: signed JWTs that name the end user behind a service's call.

Claims: `sub` (end user), `tenant`, `groups`, optional `conversation` and `purpose`, `iat`, `exp`, and `aud`, which is
``interlock``. The tenant's own HMAC secret signs by default; a tenant may register public keys too.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from interlock.access.store import signing_keys
from interlock.access.types import Behalf, Signer, SigningKey
from interlock.core.clock import now
from interlock.core.context import EndUser
from interlock.core.errors import Conflict, InvalidInput, NotFound, Unauthenticated
from interlock.core.ids import TenantId
from interlock.core.sealing import Sealer
from interlock.stores.sql.base import Sql

__all__ = ["AUDIENCE", "Tokens"]

AUDIENCE = "interlock"
_ASYMMETRIC = ("EdDSA", "ES256", "RS256")
_DEFAULT_KID = "default"
_KID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_MAX_TOKEN_CHARS = 8_192
_MAX_USER_CHARS = 256
"""What the ledger's column holds."""
_LEEWAY_S = 30


class Tokens:
    """Mints and verifies.

    Args:
        max_age_s: longest accepted life of a token, in seconds.
    """

    def __init__(self, sql: Sql, sealer: Sealer, max_age_s: int) -> None:
        self._sql = sql
        self._sealer = sealer
        self._max_age_s = max_age_s

    async def mint(
        self,
        tenant: TenantId,
        *,
        user: str,
        groups: Sequence[str],
        conversation: str | None = None,
        purpose: str | None = None,
        life_s: int = 300,
    ) -> str:
        """A token signed with the tenant's HMAC secret. Raises: InvalidInput: a life over the limit."""
        import jwt

        if not 1 <= life_s <= self._max_age_s:
            raise InvalidInput(f"a token lives 1 to {self._max_age_s} seconds, not {life_s}", param="life_s")
        key = await self._hmac_key(tenant)
        at = now()
        claims: dict[str, Any] = {  # Any: JWT claims are JSON
            "sub": user,
            "tenant": tenant,
            "groups": sorted(groups),
            "aud": AUDIENCE,
            "iat": at,
            "exp": at + timedelta(seconds=life_s),
            "jti": secrets.token_urlsafe(12),
        }
        if conversation:
            claims["conversation"] = conversation
        if purpose:
            claims["purpose"] = purpose
        return jwt.encode(claims, key.material, algorithm=key.algorithm, headers={"kid": key.kid})

    async def verify(self, tenant: TenantId, token: str) -> Behalf:
        """What a token says. Raises: Unauthenticated (code ``invalid_on_behalf_of``)."""
        import jwt

        if len(token) > _MAX_TOKEN_CHARS:
            raise _refused("it is too long")
        try:
            kid = str(jwt.get_unverified_header(token).get("kid") or _DEFAULT_KID)
        except jwt.PyJWTError as error:
            raise _refused("it is no signed token") from error
        key = await self._find(tenant, kid) if _KID.fullmatch(kid) else None
        if key is None:
            raise _refused("its key is not known to this tenant")
        try:
            claims = jwt.decode(
                token,
                key.material,
                # The stored key's own algorithm, never the token's: a public key must not be taken for an HMAC secret.
                algorithms=[key.algorithm],
                audience=AUDIENCE,
                leeway=_LEEWAY_S,
                options={"require": ["sub", "exp", "iat", "aud"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise _refused("it has expired") from error
        except jwt.PyJWTError as error:
            raise _refused("its signature or claims are wrong") from error
        if claims.get("tenant") != tenant:
            raise _refused("it was made for another tenant")
        if not all(isinstance(claims[name], int | float) for name in ("exp", "iat")):
            raise _refused("its times are not numbers")
        if not claims["sub"] or len(claims["sub"]) > _MAX_USER_CHARS:
            raise _refused(f"its user has no name, or one over {_MAX_USER_CHARS} characters")
        if claims["exp"] - claims["iat"] > self._max_age_s:
            raise _refused(f"it lives longer than {self._max_age_s} seconds")
        groups = claims.get("groups") or []
        if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups) or len(groups) > 500:
            raise _refused("its groups are not a list of up to 500 names")
        user = EndUser(str(claims["sub"]), frozenset(groups), _text(claims.get("purpose")))
        return Behalf(user, _text(claims.get("conversation")), key.kid)

    async def secret(self, tenant: TenantId) -> str:
        """The tenant's HMAC secret, made on first use: for services that mint their own tokens."""
        return (await self._hmac_key(tenant)).material

    async def register(self, tenant: TenantId, kid: str, algorithm: str, public_pem: str) -> SigningKey:
        """Accept tokens signed by the private half of a PEM public key. Raises: InvalidInput, Conflict."""
        if algorithm not in _ASYMMETRIC:
            raise InvalidInput(f"algorithm {algorithm!r} is not one of {', '.join(_ASYMMETRIC)}", param="algorithm")
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        if not _KID.fullmatch(kid):
            raise InvalidInput("a key's id has 1 to 64 letters, digits and . _ : -", param="kid")
        try:
            key = load_pem_public_key(public_pem.encode())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise InvalidInput("this is no PEM public key", param="public_key") from error
        if not isinstance(key, _key_types()[algorithm]):
            raise InvalidInput(f"this is no key of the algorithm {algorithm}", param="public_key")
        if any(known.kid == kid for known in await self.signers(tenant)):
            raise Conflict(
                f"there is, or was, a signing key {kid!r}",
                param="kid",
                hint="a revoked id is never used again: take another",
            )
        return await self._insert(SigningKey(kid, tenant, algorithm, public_pem), public_pem)

    async def signers(self, tenant: TenantId) -> Sequence[Signer]:
        """Every key that signs or signed tokens of the tenant, oldest first. Never their material."""
        rows = await self._sql.read(
            lambda conn: conn.execute(
                sa.select(
                    signing_keys.c.kid, signing_keys.c.algorithm, signing_keys.c.created_at, signing_keys.c.revoked_at
                )
                .where(signing_keys.c.tenant == tenant)
                .order_by(signing_keys.c.created_at, signing_keys.c.kid)
            ).all()
        )
        return [Signer(row.kid, row.algorithm, row.created_at, row.revoked_at) for row in rows]

    async def revoke(self, tenant: TenantId, kid: str) -> None:
        """Accept no token of this key any more, at once. Raises: NotFound.

        The tenant's own secret (``default``) is forgotten instead, and a new one is made when it is next needed.
        """
        mine = (signing_keys.c.tenant == tenant) & (signing_keys.c.kid == kid) & signing_keys.c.revoked_at.is_(None)
        own = kid == _DEFAULT_KID
        gone = signing_keys.delete().where(mine) if own else signing_keys.update().where(mine).values(revoked_at=now())
        if await self._sql.write(lambda conn: conn.execute(gone).rowcount) == 0:
            raise NotFound(
                f"no signing key {kid!r} is in force", param="kid", hint="see them with: interlock token signers"
            )

    async def _hmac_key(self, tenant: TenantId) -> SigningKey:
        found = await self._find(tenant, _DEFAULT_KID)
        if found is not None:
            return found
        secret = secrets.token_urlsafe(48)
        sealed = self._sealer.seal(secret, f"signing:{tenant}:{_DEFAULT_KID}")
        try:
            return await self._insert(SigningKey(_DEFAULT_KID, tenant, "HS256", secret), sealed)
        except sa.exc.IntegrityError:
            # Another process made it first.
            found = await self._find(tenant, _DEFAULT_KID)
            assert found is not None
            return found

    async def _insert(self, key: SigningKey, stored: str) -> SigningKey:
        await self._sql.write(
            lambda conn: (
                conn.execute(
                    signing_keys.insert().values(
                        tenant=key.tenant, kid=key.kid, algorithm=key.algorithm, material=stored, created_at=now()
                    )
                ).rowcount
            )
        )
        return key

    async def _find(self, tenant: TenantId, kid: str) -> SigningKey | None:
        row = await self._sql.read(
            lambda conn: conn.execute(
                sa.select(signing_keys).where(
                    signing_keys.c.tenant == tenant,
                    signing_keys.c.kid == kid,
                    signing_keys.c.revoked_at.is_(None),
                )
            ).one_or_none()
        )
        if row is None:
            return None
        material = row.material
        if row.algorithm == "HS256":
            material = self._sealer.open(material, f"signing:{tenant}:{kid}")
        return SigningKey(row.kid, TenantId(row.tenant), row.algorithm, material)


def _key_types() -> dict[str, type]:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    return {"EdDSA": ed25519.Ed25519PublicKey, "ES256": ec.EllipticCurvePublicKey, "RS256": rsa.RSAPublicKey}


def _text(value: object) -> str | None:
    return value[:256] if isinstance(value, str) and value else None


def _refused(why: str) -> Unauthenticated:
    return Unauthenticated(
        f"the on-behalf-of token was refused: {why}",
        param="X-Interlock-On-Behalf-Of",
        code="invalid_on_behalf_of",
        hint="mint a fresh one: interlock token mint --user ID, or interlock.client.mint_token",
    )
