"""Simulation engines that run one program on the generated hardware."""
