"""Simulation engines that run one program on the generated hardware."""

from .engine import Disturbance, Job, Outcome, Progress, run

__all__ = ["Disturbance", "Job", "Outcome", "Progress", "run"]
