"""Variants of one app measured on one suite: which of them nobody beats."""
