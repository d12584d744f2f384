"""Checkpoint files: saving, verified loading, published weights and their names."""

from .errors import CheckpointError, CheckpointMismatchError, DamagedCheckpointError
from .integrity import verify_checkpoint
from .loading import load_checkpoint, save_checkpoint

__all__ = [
    "CheckpointError",
    "CheckpointMismatchError",
    "DamagedCheckpointError",
    "load_checkpoint",
    "save_checkpoint",
    "verify_checkpoint",
]
