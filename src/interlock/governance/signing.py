"""Signs heads with the workspace's Ed25519 key, kept beside the database in a file of mode 0600."""

from __future__ import annotations

import base64
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from interlock.core.errors import Misconfigured
from interlock.core.sealing import create_private

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["HeadSigner"]

_STATEMENT = b"interlock-certificate\n"
"""What it signs is told apart from a head: neither can pass for the other."""


class HeadSigner:
    """Holds the signing key.

    Args:
        path: key file (32 raw bytes), created on first use.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loaded: Ed25519PrivateKey | None = None

    def _key(self) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        if self._loaded is None:
            create_private(self._path, 32)
            raw = self._path.read_bytes()
            if len(raw) != 32:
                raise Misconfigured("the audit signing key is damaged", hint=f"restore {self._path.name} from a backup")
            self._loaded = Ed25519PrivateKey.from_private_bytes(raw)
        return self._loaded

    @property
    def public_key(self) -> str:
        """Base64 of the raw public key, for whoever verifies elsewhere."""
        return base64.b64encode(self._key().public_key().public_bytes_raw()).decode()

    def sign(self, size: int, root: bytes, at: datetime) -> str:
        """Base64 signature of a head."""
        return base64.b64encode(self._key().sign(_message(size, root, at))).decode()

    def sign_bytes(self, message: bytes) -> bytes:
        """Raw signature of a message whose own beginning tells it apart from heads and certificates."""
        return self._key().sign(message)

    def sign_statement(self, data: bytes) -> str:
        """Base64 signature of a certificate's content."""
        return base64.b64encode(self._key().sign(_STATEMENT + data)).decode()

    def verify_statement(self, data: bytes, signature: str) -> bool:
        """True when this key signed that content."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key().public_key().verify(base64.b64decode(signature), _STATEMENT + data)
        except (InvalidSignature, ValueError):
            return False
        return True

    def verify(self, size: int, root: bytes, at: datetime, signature: str) -> bool:
        """True when this key signed that head."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key().public_key().verify(base64.b64decode(signature), _message(size, root, at))
        except (InvalidSignature, ValueError):
            return False
        return True


def _message(size: int, root: bytes, at: datetime) -> bytes:
    return f"interlock-audit-head\n{size}\n{root.hex()}\n{at.isoformat()}".encode()
