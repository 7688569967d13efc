"""Prompts: templates with front matter, rendered in a sandbox."""
