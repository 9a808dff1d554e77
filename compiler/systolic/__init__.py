"""The systolic kind: tilings, steps, commands and their price."""
