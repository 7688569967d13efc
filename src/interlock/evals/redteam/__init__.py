"""Red teaming: attacks with their benign twins, against anything that can be evaluated."""
