"""Checkpoint files: saving, verified loading, published weights and their names."""

from .loading import (
    CheckpointError,
    DamagedCheckpointError,
    load_checkpoint,
    save_checkpoint,
    verify_checkpoint,
)

__all__ = [
    "CheckpointError",
    "DamagedCheckpointError",
    "load_checkpoint",
    "save_checkpoint",
    "verify_checkpoint",
]
