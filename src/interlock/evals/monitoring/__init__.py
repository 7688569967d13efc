"""Answers that people were given, sampled, scored and watched: drift, canaries, alerts, what no test covers."""
