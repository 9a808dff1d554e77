"""Routines: short lists of instructions that every lane of post-processing of floats runs on its own elements."""
