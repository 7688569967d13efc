"""What every store of this kind must do."""

__all__ = ["IndexSuite"]


class IndexSuite:
    """Filled below."""
