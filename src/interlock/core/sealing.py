"""Seals secrets that must stay readable to us (HMAC signing keys) under the workspace's master key.

AES-256-GCM, a random 96-bit nonce per value, the value's purpose as associated data, so that a sealed value cannot be
moved to another row and still open.
"""

from __future__ import annotations

import base64
import hmac
import os
from contextlib import suppress
from pathlib import Path

from interlock.core.errors import Misconfigured

__all__ = ["Sealer", "create_private"]


class Sealer:
    """Holds the master key.

    Args:
        path: the key file; created with mode 0600 on first use.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def _key(self) -> bytes:
        create_private(self._path, 32)
        key = self._path.read_bytes()
        if len(key) != 32:
            raise Misconfigured(
                "the workspace's master key is damaged", hint=f"restore {self._path.name} from a backup"
            )
        return key

    def seal(self, value: str, purpose: str) -> str:
        """Encrypt; `purpose` must be given again to open it."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(12)
        return base64.b64encode(nonce + AESGCM(self._key()).encrypt(nonce, value.encode(), purpose.encode())).decode()

    def pseudonym(self, value: str, purpose: str) -> str:
        """32 hex digits that stand for `value`: the same ones each time, and no use to guess with without the key."""
        return hmac.new(self._key(), f"{purpose}\0{value}".encode(), "sha256").hexdigest()[:32]

    def open(self, sealed: str, purpose: str) -> str:
        """Decrypt. Raises: Misconfigured: another master key, or a moved value."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        raw = base64.b64decode(sealed)
        try:
            return AESGCM(self._key()).decrypt(raw[:12], raw[12:], purpose.encode()).decode()
        except InvalidTag as error:
            raise Misconfigured(
                "a sealed secret does not open with this workspace's master key",
                hint=f"restore {self._path.name} from the backup that belongs to this database",
            ) from error


def create_private(path: Path, size: int) -> None:
    """Write `size` random bytes to a new file of mode 0600; an existing one stays as it is.

    The file appears whole: of two processes that start together, neither can read half of the other's key.
    """
    if path.exists():
        return
    partial = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(os.urandom(size))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(partial, path)
    finally:
        partial.unlink()
