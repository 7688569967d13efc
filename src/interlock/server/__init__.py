"""The HTTP face: OpenAI-compatible API, admin REST, health. One file a part."""
