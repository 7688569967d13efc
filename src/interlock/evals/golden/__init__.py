"""Golden sets of apps that answer from documents."""
