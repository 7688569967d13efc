"""Pure mathematics: no data store, no model, no third-party package."""
