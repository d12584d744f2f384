// From clusters to the answer: joined stuff, components numbered from 0, cut edges, objective.
#pragma once

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "greedy.h"

namespace mmpanoptic {
namespace amwc {

constexpr std::int32_t kDropped = -1;

struct Partition {
    std::vector<Index> label;      // of every node
    std::vector<Index> component;  // of every node, contiguous, in the order of their roots
    std::vector<Index> root;       // of every component
    double objective = 0;
};

// Root of a node's cluster; roots point to themselves.
inline Index find_root(std::vector<Index>& root, Index node) {
    while (root[node] != node) {
        root[node] = root[root[node]];
        node = root[node];
    }
    return node;
}

// Unites the clusters at both ends of every edge that `wanted` accepts, by size.
template <class Wanted>
void join_where(const Topology& topology, Clustering& clusters, Wanted wanted) {
    std::vector<Index>&root = clusters.root, &size = clusters.size;
    topology.for_each_edge([&](Index a, Index b, Index, std::size_t) {
        if (!wanted(a, b)) return;
        a = find_root(root, a);
        b = find_root(root, b);
        if (a == b) return;
        if (size[a] < size[b]) std::swap(a, b);
        root[b] = a;
        size[a] += size[b];
    });
}

// Joins adjacent clusters of one label where the label may not be partitioned, at any price.
inline void glue(const Topology& topology, const std::vector<char>& partitionable,
                 Clustering& clusters) {
    const std::vector<Index>& label = clusters.label;
    join_where(topology, clusters, [&](Index a, Index b) {
        return label[a] == label[b] && !partitionable[label[a]];
    });
}

inline Partition number_components(Clustering& clusters) {
    const Index count = Index(clusters.root.size());
    Partition out;
    std::vector<Index> number(count, kNone);
    for (Index node = 0; node < count; ++node)
        if (clusters.root[node] == node) {
            number[node] = Index(out.root.size());
            out.root.push_back(node);
        }
    out.component.resize(count);
    for (Index node = 0; node < count; ++node)
        out.component[node] = number[find_root(clusters.root, node)];
    out.label = clusters.label;
    return out;
}

// Calls visit(cost array, position) for every edge between two components.
template <class Visit>
void for_each_cut(const Topology& topology, const std::vector<Index>& component, Visit visit) {
    topology.for_each_edge([&](Index a, Index b, Index array, std::size_t position) {
        if (component[a] != component[b]) visit(array, position);
    });
}

// Costs of the chosen labels plus costs of the edges between components.
template <class In>
double objective(const Topology& topology, const NodeCosts<In>& node_costs,
                 const std::vector<const In*>& edge_costs, const std::vector<Index>& label,
                 const std::vector<Index>& component) {
    double sum = 0;
    for (Index node = 0; node < topology.num_nodes(); ++node) sum += node_costs(node, label[node]);
    for_each_cut(topology, component, [&](Index array, std::size_t position) {
        sum += edge_costs[array][position];
    });
    return sum;
}

}  // namespace amwc
}  // namespace mmpanoptic
