"""Arithmetic: multipliers, and what else number formats are made of."""
