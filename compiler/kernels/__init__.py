"""Kernels: what an array is asked to do, and how each operator is stated as such."""
