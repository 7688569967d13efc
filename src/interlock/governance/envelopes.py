"""DSSE envelopes (Dead Simple Signing Envelope, v1): a payload with its type, signed by Ed25519, checked elsewhere.

What is signed begins with ``DSSEv1``, which neither a head nor a certificate does: none can pass for another.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from interlock.core.errors import InvalidInput
from interlock.governance.signing import HeadSigner

__all__ = ["Opened", "open_envelope", "seal_envelope"]


class _Signature(msgspec.Struct, frozen=True):
    keyid: str
    sig: str


class _Envelope(msgspec.Struct, frozen=True, rename={"payload_type": "payloadType"}):
    payload: str
    payload_type: str
    signatures: list[_Signature]


class Opened(NamedTuple):
    """What an envelope holds, and who vouches for it."""

    payload: bytes
    public_key: str
    """Base64 of the raw key whose signature holds."""


def seal_envelope(signer: HeadSigner, payload_type: str, payload: bytes) -> bytes:
    """The envelope as JSON, signed with the installation's key."""
    sig = signer.sign_bytes(_pre_authentication(payload_type, payload))
    signature = _Signature(_key_id(signer.public_key), base64.b64encode(sig).decode())
    body = _Envelope(base64.b64encode(payload).decode(), payload_type, [signature])
    return msgspec.json.format(msgspec.json.encode(body), indent=1) + b"\n"


def open_envelope(data: bytes, payload_type: str, keys: Sequence[str]) -> Opened:
    """The payload, once one of its signatures was made by one of `keys`.

    Args:
        keys: base64 of raw Ed25519 public keys that are trusted.

    Raises: InvalidInput: it is no such envelope, nobody signed it, or none of `keys` did.
    """
    try:
        envelope = msgspec.json.decode(data, type=_Envelope)
        payload = base64.b64decode(envelope.payload, validate=True)
    except (msgspec.DecodeError, binascii.Error, UnicodeDecodeError) as error:
        raise InvalidInput(
            "this is no signed envelope", param="file", hint="interlock release export writes one"
        ) from error
    if envelope.payload_type != payload_type:
        raise InvalidInput(f"the envelope holds no {payload_type}", param="file")
    if not envelope.signatures:
        raise InvalidInput(
            "the envelope is not signed", param="file", hint="interlock release export signs; ask for a signed file"
        )
    message = _pre_authentication(payload_type, payload)
    for key in keys:
        if any(_holds(key, message, signature.sig) for signature in envelope.signatures):
            return Opened(payload, key)
    if {each.keyid for each in envelope.signatures} & {_key_id(key) for key in keys}:
        raise InvalidInput(
            "the envelope was changed after it was signed", param="file", hint="take the file from its source again"
        )
    raise InvalidInput(
        "the envelope is signed by a key that is not trusted here",
        param="public_key",
        hint="--public-key KEY, or releases.trusted_keys; `interlock audit head` prints it where the file was written",
    )


def _pre_authentication(payload_type: str, payload: bytes) -> bytes:
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _key_id(public_key: str) -> str:
    return hashlib.sha256(public_key.encode()).hexdigest()[:16]


def _holds(key: str, message: bytes, sig: str) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        raw = base64.b64decode(key, validate=True)
        if len(raw) != 32:
            raise ValueError("32 bytes")
        public = Ed25519PublicKey.from_public_bytes(raw)
    except ValueError as error:
        raise InvalidInput(
            "a public key is 32 bytes in base64", param="public_key", hint="interlock audit head prints one"
        ) from error
    try:
        public.verify(base64.b64decode(sig), message)
    except (InvalidSignature, ValueError):
        return False
    return True
