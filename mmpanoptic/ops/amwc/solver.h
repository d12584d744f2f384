// One instance from its costs to its solution.
#pragma once

#include <algorithm>
#include <stdexcept>

#include "local_search.h"

namespace mmpanoptic {
namespace amwc {

constexpr std::size_t kMaxEdges = std::size_t(1) << 31;

struct Options {
    bool published = false;       // labels and roots of the published solver, in double precision
    bool double_precision = false;
    bool glue_if_it_pays = false;   // else stuff regions are joined at any price
    Index local_search_rounds = 0;
    Index min_instance_size = 0;  // thing components with fewer nodes are dropped
};

template <class In>
struct Instance {
    Topology topology;
    NodeCosts<In> node_costs;
    std::vector<const In*> edge_costs;
    bool symmetric = false;
    std::vector<char> partitionable;  // per label; all zero in the symmetric problem
};

// Where the answer goes; `cuts` holds one array of the shape of every cost array, or nothing.
struct Answer {
    std::int32_t* labels;
    std::int32_t* components;
    std::vector<std::uint8_t*> cuts;
    std::vector<std::int32_t> roots;
    double objective;
};

constexpr const char* kNotFinite = " is NaN or infinite; costs must be finite";

template <class In>
void check_costs(const Instance<In>& instance) {
    if (instance.topology.num_edges() > kMaxEdges)
        throw std::invalid_argument(std::to_string(instance.topology.num_edges()) +
                                    " edges are more than the solver can number; leave out " +
                                    "distances or sample them");
    const NodeCosts<In>& costs = instance.node_costs;
    const std::size_t total = std::size_t(costs.num_nodes) * costs.num_labels;
    for (std::size_t at = 0; at < total; ++at)
        if (!std::isfinite(costs.data[at])) {
            const std::size_t node = costs.planes ? at % costs.num_nodes : at / costs.num_labels;
            const std::size_t label = costs.planes ? at / costs.num_nodes : at % costs.num_labels;
            throw std::invalid_argument("the cost of node " + std::to_string(node) +
                                        " for label " + std::to_string(label) + kNotFinite);
        }
    instance.topology.for_each_edge([&](Index a, Index b, Index array, std::size_t position) {
        if (!std::isfinite(instance.edge_costs[array][position]))
            throw std::invalid_argument("the cost of the edge between nodes " + std::to_string(a) +
                                        " and " + std::to_string(b) + kNotFinite);
    });
}

// Numbers components anew without things below the threshold; their nodes get kDropped.
inline void write_components(const Partition& partition, const std::vector<char>& partitionable,
                             Index min_size, Answer& answer) {
    std::vector<Index> size(partition.root.size(), 0);
    for (Index component : partition.component) ++size[component];
    std::vector<std::int32_t> number(size.size(), kDropped);
    for (std::size_t c = 0; c < size.size(); ++c) {
        if (partitionable[partition.label[partition.root[c]]] && size[c] < min_size) continue;
        number[c] = std::int32_t(answer.roots.size());
        answer.roots.push_back(std::int32_t(partition.root[c]));
    }
    for (std::size_t node = 0; node < partition.component.size(); ++node)
        answer.components[node] = number[partition.component[node]];
}

template <class In>
void solve(const Instance<In>& instance, const Options& options, Answer& answer) {
    check_costs(instance);
    const Problem problem = instance.symmetric ? Problem::kSymmetric : Problem::kAsymmetric;
    Clustering clusters =
        options.published || options.double_precision
            ? solve_greedy<double>(options.published, problem, instance.topology,
                                   instance.node_costs, instance.edge_costs)
            : solve_greedy<float>(false, problem, instance.topology, instance.node_costs,
                                  instance.edge_costs);
    Improver<In> improver(instance.topology, instance.node_costs, instance.edge_costs,
                          instance.partitionable, clusters);
    if (options.glue_if_it_pays) improver.avoid_costly_gluing();
    improver.search(options.local_search_rounds);
    glue(instance.topology, instance.partitionable, clusters);
    const Partition partition = number_components(clusters);
    answer.objective = objective(instance.topology, instance.node_costs, instance.edge_costs,
                                 partition.label, partition.component);
    std::copy(partition.label.begin(), partition.label.end(), answer.labels);
    if (!answer.cuts.empty())
        for_each_cut(instance.topology, partition.component,
                     [&](Index array, std::size_t position) { answer.cuts[array][position] = 1; });
    write_components(partition, instance.partitionable, options.min_instance_size, answer);
}

}  // namespace amwc
}  // namespace mmpanoptic
