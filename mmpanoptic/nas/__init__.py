"""Architecture search: spaces, samplers, search loops and costs."""

from .loops import EvolutionSearchLoop, PathPrioritySearchLoop, RandomSearchLoop, SamplerSearchLoop
from .optim import SupernetOptimWrapperConstructor
from .path_hook import SupernetPathHook
from .space import DecisionGroup, SearchSpace

__all__ = [
    "DecisionGroup",
    "EvolutionSearchLoop",
    "PathPrioritySearchLoop",
    "RandomSearchLoop",
    "SamplerSearchLoop",
    "SearchSpace",
    "SupernetOptimWrapperConstructor",
    "SupernetPathHook",
]
