"""Folder names for tenants: one tenant, one name, on every file system."""

from __future__ import annotations

import hashlib

from interlock.core.ids import TenantId

__all__ = ["tenant_folder"]

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_LONGEST = 120


def tenant_folder(tenant: TenantId) -> str:
    """A file-system name for `tenant`: different tenants never share one, even where case is ignored.

    Lower-case letters, digits and ``-`` stay; every other byte of the UTF-8 form becomes ``_xx``. Names that would be
    too long for a file system become ``__`` and a SHA-256, which no other name starts with.
    """
    raw = tenant.encode("utf-8", "surrogatepass")
    name = "".join(chr(b) if chr(b) in _PLAIN else f"_{b:02x}" for b in raw) or "_"
    return name if len(name) <= _LONGEST else "__" + hashlib.sha256(raw).hexdigest()
