"""What every wire does with an answer of another shape than its reference says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from interlock.core.errors import ProviderError

__all__ = ["well_formed"]


@contextmanager
def well_formed(provider: str) -> Iterator[None]:
    """Turns a field of another type (`delta` that is a string, an `index` that is no number) into a ProviderError."""
    try:
        yield
    except (AttributeError, TypeError, ValueError, KeyError) as error:
        raise ProviderError(
            f"provider {provider!r} sent an event of another shape", provider=provider, retryable=True
        ) from error
