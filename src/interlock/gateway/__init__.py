"""The gateway: every model call leaves through here."""
