"""What the PostgreSQL index asks, and the tables it asks. Each statement names the tenant; values are parameters."""

from __future__ import annotations

import sqlalchemy as sa

from interlock.stores.index import _rows

__all__ = [
    "ALLOWED",
    "COLLECTION",
    "DOCUMENT",
    "DROP",
    "DROP_READERS",
    "GET",
    "LEXICAL",
    "LEXICAL_WITHIN",
    "LOCK_COLLECTION",
    "NEAREST",
    "OF_DOCUMENTS",
    "SCHEMA",
    "SET_READERS",
    "STATS",
]

SCHEMA = """
CREATE SCHEMA IF NOT EXISTS interlock_index;
CREATE TABLE IF NOT EXISTS interlock_index.collection (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant text NOT NULL, name text NOT NULL,
  embedder text NOT NULL, dims integer NOT NULL, n_rows bigint NOT NULL DEFAULT 0, n_words bigint NOT NULL DEFAULT 0,
  UNIQUE (tenant, name));
CREATE TABLE IF NOT EXISTS interlock_index.reader_set (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant text NOT NULL, digest text NOT NULL,
  UNIQUE (tenant, digest));
CREATE TABLE IF NOT EXISTS interlock_index.reader_member (
  tenant text NOT NULL, reader text NOT NULL,
  set_id bigint NOT NULL REFERENCES interlock_index.reader_set ON DELETE CASCADE,
  PRIMARY KEY (tenant, reader, set_id));
CREATE TABLE IF NOT EXISTS interlock_index.passage (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant text NOT NULL,
  collection_id bigint NOT NULL REFERENCES interlock_index.collection ON DELETE CASCADE,
  passage_id text NOT NULL, document_id text NOT NULL, aclset bigint NOT NULL, n_words integer NOT NULL,
  terms_bytes integer NOT NULL, payload bytea NOT NULL, UNIQUE (collection_id, passage_id));
CREATE INDEX IF NOT EXISTS passage_document ON interlock_index.passage (collection_id, document_id, id);
CREATE INDEX IF NOT EXISTS passage_scored
  ON interlock_index.passage (collection_id, aclset, id) INCLUDE (tenant, n_words);
DROP INDEX IF EXISTS interlock_index.passage_readable;
CREATE TABLE IF NOT EXISTS interlock_index.posting (
  collection_id bigint NOT NULL, term text COLLATE "C" NOT NULL,
  passage bigint NOT NULL REFERENCES interlock_index.passage ON DELETE CASCADE, n integer NOT NULL,
  PRIMARY KEY (collection_id, term, passage) INCLUDE (n));
CREATE INDEX IF NOT EXISTS posting_passage ON interlock_index.posting (passage);
DO $$ BEGIN
  IF (SELECT indnatts FROM pg_index WHERE indrelid = CAST('interlock_index.posting' AS regclass) AND indisprimary) = 3
  THEN
    CREATE UNIQUE INDEX posting_counted ON interlock_index.posting (collection_id, term, passage) INCLUDE (n);
    ALTER TABLE interlock_index.posting DROP CONSTRAINT posting_pkey,
      ADD CONSTRAINT posting_pkey PRIMARY KEY USING INDEX posting_counted;
  END IF;
END $$;
"""
"""Rows are counted and scored from the two indexes alone: a passage is as wide as its text, and a collection's postings
lie all over their table. The end brings tables of an older release up to this."""


NEAREST = """
SELECT p.passage_id, p.document_id, 1.0 - near.distance, p.payload
FROM ({near} ORDER BY {order} LIMIT :k) near
JOIN interlock_index.passage p ON p.id = near.passage AND p.tenant = :tenant
ORDER BY near.distance, p.id
"""
COLLECTION = sa.text("""
SELECT id, embedder, dims, n_rows FROM interlock_index.collection WHERE tenant = :tenant AND name = :name
""")
LOCK_COLLECTION = sa.text(f"{COLLECTION.text} FOR UPDATE")
OF_DOCUMENTS = (
    "SELECT id FROM interlock_index.passage WHERE collection_id = :collection AND tenant = :tenant"
    " AND document_id = ANY(CAST(:documents AS text[]))"
)
_FLOAT = "CAST({} AS float8)"
"""A plain number is a `numeric`, which takes many times as long."""
# Nothing of an unreadable row goes into a weight or into the mean length: `idf` and the formula of FTS5, whose
# constants these are, over what is left when such rows are left out. Terms are added in any order, so the last digits
# of a sum are cut off: rows that are equally good must stay so.
_LEXICAL = f"""
WITH readable AS MATERIALIZED (
  SELECT id, n_words FROM interlock_index.passage
  WHERE tenant = :tenant AND collection_id = :collection AND aclset = ANY(:allowed)),
whole AS MATERIALIZED (
  SELECT CAST(count(*) AS float8) AS n, CAST(sum(n_words) AS float8) / count(*) AS mean FROM readable),
named AS MATERIALIZED (
  SELECT w.term, w.passage, CAST(w.n AS float8) AS n, CAST(r.n_words AS float8) AS n_words
  FROM interlock_index.posting w JOIN readable r ON r.id = w.passage
  WHERE w.collection_id = :collection AND w.term = ANY(CAST(:terms AS text[]))),
counted AS (SELECT term, CAST(count(*) AS float8) AS n FROM named GROUP BY term),
weighed AS MATERIALIZED (
  SELECT c.term, r.mean, coalesce(nullif(greatest(ln((r.n - c.n + 0.5) / (c.n + 0.5)), 0), 0), {_rows.COMMON})
    AS weight FROM counted c CROSS JOIN whole r)
SELECT p.passage_id, p.document_id, best.score, p.payload FROM (
  SELECT n.passage, round(100000000000 * sum(q.weight * n.n * {_FLOAT.format(_rows.K1 + 1)}
         / (n.n + {_FLOAT.format(_rows.K1)} * ({_FLOAT.format(1 - _rows.B)} + {_FLOAT.format(_rows.B)} * n.n_words
         / q.mean)))) / 100000000000 AS score
  FROM named n JOIN weighed q ON q.term = n.term{{within}}
  GROUP BY n.passage ORDER BY score DESC, n.passage LIMIT :k) best
JOIN interlock_index.passage p ON p.id = best.passage AND p.tenant = :tenant ORDER BY best.score DESC, p.id
"""  # noqa: S608 - constants
LEXICAL = sa.text(_LEXICAL.format(within=""))
LEXICAL_WITHIN = sa.text(_LEXICAL.format(within=f" WHERE n.passage IN ({OF_DOCUMENTS})"))
_READABLE = "p.tenant = :tenant AND p.collection_id = :collection AND p.aclset = ANY(:allowed)"
GET = sa.text(f"""
SELECT p.passage_id, p.document_id, 0.0, p.payload FROM interlock_index.passage p
WHERE {_READABLE} AND p.passage_id = ANY(CAST(:wanted AS text[]))
""")  # noqa: S608 - constants
DOCUMENT = sa.text(f"""
SELECT p.passage_id, p.document_id, 0.0, p.payload FROM interlock_index.passage p
WHERE {_READABLE} AND p.document_id = :document ORDER BY p.id
""")  # noqa: S608 - constants
ALLOWED = sa.text("""
SELECT DISTINCT set_id FROM interlock_index.reader_member
WHERE tenant = :tenant AND reader = ANY(CAST(:readers AS text[]))
""")
SET_READERS = sa.text("""
UPDATE interlock_index.passage SET aclset = :aclset
WHERE tenant = :tenant AND collection_id = :collection AND document_id = :document RETURNING id
""")
STATS = sa.text("""
SELECT count(*), count(DISTINCT document_id), coalesce(sum(length(payload) + terms_bytes), 0)
FROM interlock_index.passage WHERE tenant = :tenant AND collection_id = :collection
""")
DROP = sa.text("""
DELETE FROM interlock_index.collection WHERE tenant = :tenant AND (CAST(:name AS text) IS NULL OR name = :name)
""")
DROP_READERS = sa.text("DELETE FROM interlock_index.reader_set WHERE tenant = :tenant")
