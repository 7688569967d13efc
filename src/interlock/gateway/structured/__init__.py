"""Answers in the form that was asked for: JSON that holds to a schema, tool calls of models that know none."""
