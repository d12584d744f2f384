"""Asymmetric and symmetric multiway cut: pixel classes and instances at once, by a C++ solver.

The solver is compiled when mmpanoptic is installed, if there is a C++ compiler. Without it this
package can be imported, and solving raises :class:`SolverUnavailableError` with the remedy.
"""

from __future__ import annotations

from .api import (
    Solution,
    SolverOptions,
    solve_graph,
    solve_graph_batch,
    solve_grid,
    solve_grid_batch,
)
from .compiled import SolverUnavailableError, is_available
from .grid import grid_edges, objective

__all__ = [
    "Solution",
    "SolverOptions",
    "SolverUnavailableError",
    "grid_edges",
    "is_available",
    "objective",
    "solve_graph",
    "solve_graph_batch",
    "solve_grid",
    "solve_grid_batch",
]
