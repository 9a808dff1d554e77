"""Workloads of the command line: drawn operators, demonstration networks, and their settings."""
