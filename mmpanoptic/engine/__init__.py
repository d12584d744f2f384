"""Training and testing: runner, loops, hooks, checkpoints."""

from .annealing_hook import MaskAnnealingHook
from .checkpoint_hook import AtomicCheckpointHook
from .data_summary_hook import DataErrorSummaryHook
from .fully_sharded import FullyShardedModel
from .logger_hook import MainProcessLoggerHook
from .loops import EpochTrainLoop, IterTrainLoop
from .non_finite import NonFiniteLossError, NonFiniteLossHook
from .optim_wrapper import AutocastOptimWrapper
from .stop_hooks import PatienceStopHook, StopSignalHook
from .visualization_hook import PanopticVisualizationHook

__all__ = [
    "EpochTrainLoop",
    "IterTrainLoop",
    "AtomicCheckpointHook",
    "DataErrorSummaryHook",
    "FullyShardedModel",
    "MainProcessLoggerHook",
    "MaskAnnealingHook",
    "NonFiniteLossHook",
    "NonFiniteLossError",
    "PatienceStopHook",
    "StopSignalHook",
    "PanopticVisualizationHook",
    "AutocastOptimWrapper",
]
