"""What is done to every answer's text before a caller sees it: one file a hook."""
