"""Optional steps around a search: what is asked, where else to look, and in which order it is given."""
