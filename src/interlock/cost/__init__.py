"""Cost: what each call cost, to the price row."""
