"""The schema's history: one file a revision, run by `interlock.stores.sql.schema`."""
