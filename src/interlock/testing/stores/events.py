"""What every store of this kind must do."""

__all__ = ["EventsSuite"]


class EventsSuite:
    """Filled below."""
