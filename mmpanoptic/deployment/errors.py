"""What goes wrong when a model is taken away from PyTorch."""


class ExportError(RuntimeError):
    """A model cannot be exported, or its file computes something else than PyTorch."""
