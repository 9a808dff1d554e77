"""Routines of the vector engine: how they are written, assembled and interpreted, and those that operators need."""
