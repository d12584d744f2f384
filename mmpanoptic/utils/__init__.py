"""The little that belongs nowhere else."""

from .files import atomic_write, read_json, write_json

__all__ = ["atomic_write", "read_json", "write_json"]
