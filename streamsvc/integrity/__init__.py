"""What proves that nothing is missing: the rules of continuity and the check of a data set."""
