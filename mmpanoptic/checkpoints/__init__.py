"""Checkpoint files: saving, verified loading, published weights and their names."""

from .integrity import CheckpointError, DamagedCheckpointError, verify_checkpoint
from .loading import load_checkpoint, save_checkpoint

__all__ = [
    "CheckpointError",
    "DamagedCheckpointError",
    "load_checkpoint",
    "save_checkpoint",
    "verify_checkpoint",
]
