"""What every store of this kind must do."""

__all__ = ["BlobsSuite"]


class BlobsSuite:
    """Filled below."""
