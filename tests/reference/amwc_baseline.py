"""The plain multiway cut solver of ``amwc_baseline.cpp``, compiled when it is first used."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from tests.data.golden.cops.synthetic_scenes import edge_list, scene

SOURCE = Path(__file__).with_suffix(".cpp")
CITYSCAPES = {
    "num_classes": 19,
    "thing_ids": tuple(range(11, 19)),
    "distances": (1, 4, 16, 32, 64),
}
COCO = {"num_classes": 133, "thing_ids": tuple(range(80)), "distances": (1, 4, 16, 32)}


@functools.cache
def compile_baseline() -> ctypes.CDLL:
    """Compile into the user's cache folder, once per source and user.

    Raises:
        RuntimeError: If there is no C++ compiler.
    """
    compiler = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++")
    if compiler is None:
        raise RuntimeError("the baseline needs a C++ compiler (Debian: apt-get install g++)")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mmpanoptic"
    target = cache / f"amwc_baseline-{zlib.crc32(SOURCE.read_bytes()):08x}.so"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            made = Path(folder) / "baseline.so"
            flags = ["-O3", "-DNDEBUG", "-std=c++17", "-ffp-contract=off", "-shared", "-fPIC"]
            subprocess.run([compiler, *flags, str(SOURCE), "-o", str(made)], check=True)
            made.replace(target)
    library = ctypes.CDLL(str(target))
    library.solve.restype = ctypes.c_double
    return library


def solve_plainly(node_costs, edges, edge_costs, things=None):
    """Solve with the plain solver.

    Args:
        node_costs: (N, K).
        edges: (E, 2) with the smaller node first.
        edge_costs: (E,).
        things: (K,) bool, or None for the symmetric problem.

    Returns:
        tuple: int32 labels (N,), int32 root node per node (N,), objective.
    """
    nodes = np.ascontiguousarray(node_costs, np.float32)
    pairs = np.ascontiguousarray(edges, np.int32)
    costs = np.ascontiguousarray(edge_costs, np.float32)
    mask = None if things is None else np.ascontiguousarray(things, np.uint8)
    labels, roots = np.empty((2, len(nodes)), np.int32)
    objective = compile_baseline().solve(
        ctypes.c_int(len(nodes)),
        ctypes.c_int(nodes.shape[1]),
        ctypes.c_int64(len(pairs)),
        *(
            ctypes.c_void_p(None if array is None else array.ctypes.data)
            for array in (nodes, pairs, costs, mask, labels, roots)
        ),
    )
    return labels, roots, objective


@functools.lru_cache(maxsize=4)
def make_scene(
    kind: str, seed: int, height: int, width: int, num_things: int, noise: float
) -> dict[str, Any]:
    """Costs of a synthetic scene as ``solve_grid`` takes them, and as a graph.

    The graph (``rows`` (N, K), ``pairs`` (E, 2) and ``costs`` (E,)) is for the plain solver, whose
    time shall not include making it.
    """
    settings = {"cityscapes": CITYSCAPES, "coco": COCO}[kind]
    margin = {"cityscapes": 4.0, "coco": 5.0}[kind]
    options = {"num_things": num_things, "margin": margin, "noise": noise, "aff_noise": noise}
    nodes, edges, _, _ = scene(seed, height, width, **settings, **options)
    pairs, costs = edge_list(edges, settings["distances"])
    return {
        "nodes": nodes,
        "edges": edges,
        "distances": settings["distances"],
        "things": np.isin(np.arange(settings["num_classes"]), settings["thing_ids"]),
        "rows": np.ascontiguousarray(nodes.reshape(len(nodes), -1).T),
        "pairs": np.ascontiguousarray(pairs, np.int32),
        "costs": costs,
    }


def check_objectives(expected: float, got: float) -> None:
    """Accept an objective that is as low as the plain solver's, but for float32 rounding.

    Raises:
        AssertionError: If it is higher.
    """
    if not got <= expected + 1e-6 * abs(expected):
        raise AssertionError(f"objective {got:.2f}, the plain solver reaches {expected:.2f}")
