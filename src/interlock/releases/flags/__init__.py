"""Values that an app's own code asks for, told by file, by targeting and by where a unit stands in an experiment."""
