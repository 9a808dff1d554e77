"""Row-stationary accelerators: the mapping of layers, and the commands that follow from it."""
