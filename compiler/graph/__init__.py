"""Graphs of operators over typed tensors, and what is checked and changed in them before they are lowered."""
