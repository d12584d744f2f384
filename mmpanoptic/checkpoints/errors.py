"""What can be wrong with a checkpoint."""


class CheckpointError(RuntimeError):
    """A checkpoint is missing, damaged, unsafe or does not fit; the message says what to do."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint file is cut off or changed; another copy of it may be whole."""


class CheckpointMismatchError(ValueError):
    """The tensors of a checkpoint are not those of the model."""
