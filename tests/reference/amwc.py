"""Multiway cuts by their definition: feasibility, and the optimum of tiny graphs."""

from __future__ import annotations

import numpy as np


def connected_components(num_nodes: int, pairs: np.ndarray) -> np.ndarray:
    """Smallest node of each node's component, (N,)."""
    root = np.arange(num_nodes)
    while True:
        before = root.copy()
        np.minimum.at(root, pairs[:, 0], before[pairs[:, 1]])
        np.minimum.at(root, pairs[:, 1], before[pairs[:, 0]])
        root = root[root]
        if np.array_equal(root, before):
            return root


def is_feasible(edges, labels, components, cuts, things) -> bool:
    """Whether cuts, labels and components agree with each other and with the constraints.

    Edges are cut where labels differ, never where both ends have one label that is no thing, and
    the joined edges connect exactly the nodes of one component.

    Args:
        edges: (E, 2) node numbers.
        labels: N elements of any shape.
        components: As labels.
        cuts: (E,) whether an edge is cut.
        things: (K,) whether a label may be partitioned.
    """
    pairs = np.asarray(edges, np.int64).reshape(-1, 2)
    label, component = np.asarray(labels).ravel(), np.asarray(components).ravel()
    cut = np.asarray(cuts).astype(bool)
    first, second = label[pairs[:, 0]], label[pairs[:, 1]]
    if not cut[first != second].all():
        return False
    if cut[(first == second) & ~np.asarray(things)[first]].any():
        return False
    if not np.array_equal(cut, component[pairs[:, 0]] != component[pairs[:, 1]]):
        return False
    root = connected_components(label.size, pairs[~cut])
    both = np.unique(np.stack([root, component]), axis=1).shape[1]
    return both == len(np.unique(root)) == len(np.unique(component))


def optimum(node_costs, edges, edge_costs, things) -> float:
    """Smallest objective, by dynamic programming over subsets of nodes; up to about 12 nodes.

    A solution splits the nodes into labelled blocks, at most one per label that may not be
    partitioned; edges between blocks are paid. So it costs all edges, plus for every block its
    label costs minus the edges inside. With no things this is the symmetric problem.

    Args:
        node_costs: (N, K).
        edges: (E, 2).
        edge_costs: (E,).
        things: (K,) whether a label may be partitioned.
    """
    nodes = np.asarray(node_costs, np.float64)
    count = len(nodes)
    masks = np.arange(1 << count)
    members = (masks[:, None] >> np.arange(count)) & 1
    inside = np.zeros(len(masks))
    for (a, b), cost in zip(edges, edge_costs, strict=True):
        inside += members[:, a] * members[:, b] * float(cost)
    block = members @ nodes - inside[:, None]  # (2^N, K): each subset as one block of a label
    is_thing = np.asarray(things, bool)
    best = np.full(len(masks), np.inf)
    best[0] = 0.0
    if is_thing.any():
        alone = block[:, is_thing].min(1)
        for mask in masks[1:]:
            subsets = masks[(masks & ~mask) == 0]
            subsets = subsets[(subsets & mask & -mask) != 0]  # the block of the lowest node
            best[mask] = (alone[subsets] + best[mask ^ subsets]).min()
    for label in np.flatnonzero(~is_thing):
        before = best.copy()
        for mask in masks[1:]:
            subsets = masks[(masks & ~mask) == 0][1:]
            best[mask] = min(before[mask], (block[subsets, label] + before[mask ^ subsets]).min())
    return float(best[-1] + np.asarray(edge_costs, np.float64).sum())
