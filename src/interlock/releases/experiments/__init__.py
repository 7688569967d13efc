"""Several releases beside each other under a plan that is frozen before the first unit, judged at any time."""
