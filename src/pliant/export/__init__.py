"""Results in other people's formats."""
