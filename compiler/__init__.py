"""From operators and tensors to a program and a memory image."""
