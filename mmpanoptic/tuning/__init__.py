"""Trials that several processes share, on Optuna: storages, workers, samplers, Pareto sets."""

from .storage import open_storage, require_optuna
from .study import Outcome, SharedStudy

__all__ = ["Outcome", "SharedStudy", "open_storage", "require_optuna"]
