"""CSV and TSV: one row a line, ``a | b | c``; each row is searched with its column names."""

from __future__ import annotations

import csv
import io

from interlock.core.errors import InvalidInput, TooLarge
from interlock.knowledge.loaders._building import TextBuilder, captioned, looks_like_header
from interlock.knowledge.loaders._decoding import decode
from interlock.knowledge.types import LoadedDocument

__all__ = ["CsvLoader", "plugin"]

_MAX_ROWS = 200_000
_MAX_COLUMNS = 500
_DELIMITERS = ",;\t|"
# The module's own bound fails a whole table for one long note; files are bounded by `knowledge.max_file_bytes`.
csv.field_size_limit(1 << 30)


class CsvLoader:
    """Delimiter by sniffing, header by its look: filled, distinct names without numbers."""

    version = "csv/3"
    suffixes = frozenset({".csv", ".tsv", ".tab"})
    isolated = False

    def load(self, data: bytes, name: str) -> LoadedDocument:
        """See :class:`~interlock.knowledge.ports.Loader`."""
        text = decode(data, name)
        rows = _rows(text, name)
        builder = TextBuilder(name, "text/csv")
        captions, table = captioned(rows)
        for caption in captions:
            builder.add("paragraph", caption)
        builder.table(table, has_header=looks_like_header(table))
        return builder.build()


def _rows(text: str, name: str) -> list[list[str]]:
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), _dialect(text)):
            if not any(cell.strip() for cell in row):
                continue
            if len(rows) >= _MAX_ROWS or len(row) > _MAX_COLUMNS:
                over = f"{_MAX_ROWS} rows" if len(rows) >= _MAX_ROWS else f"{_MAX_COLUMNS} columns"
                raise TooLarge(
                    f"the table {name!r} has more than {over}",
                    param=name,
                    hint="split it, or keep the columns people ask about",
                )
            rows.append(row)
    except csv.Error as error:
        message = f"the table {name!r} cannot be read: {error}"
        raise InvalidInput(message, param=name, code="damaged_document") from error
    return rows


def _dialect(text: str) -> type[csv.Dialect] | csv.Dialect:
    lines = [line for line in text[:65_536].splitlines() if line.strip()][:50]
    try:
        sniffed = csv.Sniffer().sniff("\n".join(lines), _DELIMITERS)
    except csv.Error:
        return csv.excel
    # The sniffer guesses quoting from odd samples; only its delimiter is worth having.
    counts = {d: min((line.count(d) for line in lines), default=0) for d in _DELIMITERS}
    delimiter = sniffed.delimiter if counts.get(sniffed.delimiter) else max(_DELIMITERS, key=lambda d: counts[d])

    class Found(csv.excel):
        pass

    Found.delimiter = delimiter if any(counts.values()) else sniffed.delimiter
    return Found


plugin = CsvLoader()
