"""rayfit: sweeps of hyperfitting experiments (arXiv 2412.04318) on Ray Train, Ray Tune, DeepSpeed and MLflow."""

from rayfit.cli import sweep_main
from rayfit.plan.declaration import AtScale, Sweep
from rayfit.presets import PAPER_TEXTS

__version__ = "0.1.0"

__all__ = ["PAPER_TEXTS", "AtScale", "Sweep", "__version__", "sweep_main"]
