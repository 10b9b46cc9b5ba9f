"""``omfa-zoo``: the command line of the zoo."""
