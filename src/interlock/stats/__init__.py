"""Pure mathematics: intervals, tests, sequences. Imports nothing heavy."""
