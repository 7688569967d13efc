"""Whether a run may pass: rules over metrics, decided by tests that say how sure they are."""
