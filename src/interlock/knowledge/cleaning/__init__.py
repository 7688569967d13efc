"""Between a loaded document and its passages: repaired, scanned, and compared with the others of its collection."""
