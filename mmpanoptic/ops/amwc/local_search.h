// Moves single nodes and whole regions as long as the objective falls.
//
// The search sees a solution as labelled blocks: at most one per label that may not be partitioned,
// any number of the others. Edges between blocks cost their price, so every assignment of units to
// blocks is feasible. A unit (a node or a region) may go to the block of a neighbour, to another
// label, or into a block of its own; the last one splits what the greedy solver has joined.
#pragma once

#include <deque>
#include <numeric>

#include "partition.h"

namespace mmpanoptic {
namespace amwc {

// Units and the summed costs of the edges between them.
class UnitGraph {
public:
    struct Link {
        Index unit;
        double cost;
    };

    // `unit` gives every node its unit; edges inside a unit are left out.
    template <class In>
    UnitGraph(const Topology& topology, const std::vector<const In*>& costs,
              const std::vector<Index>& unit, Index num_units)
        : start_(num_units + 1, 0) {
        topology.for_each_edge([&](Index a, Index b, Index, std::size_t) {
            if (unit[a] == unit[b]) return;
            ++start_[unit[a] + 1];
            ++start_[unit[b] + 1];
        });
        std::partial_sum(start_.begin(), start_.end(), start_.begin());
        links_.resize(start_.back());
        std::vector<std::size_t> next(start_.begin(), start_.end() - 1);
        topology.for_each_edge([&](Index a, Index b, Index array, std::size_t position) {
            if (unit[a] == unit[b]) return;
            const double cost = costs[array][position];
            links_[next[unit[a]]++] = {unit[b], cost};
            links_[next[unit[b]]++] = {unit[a], cost};
        });
    }

    Index size() const { return Index(start_.size() - 1); }
    const Link* begin(Index unit) const { return links_.data() + start_[unit]; }
    const Link* end(Index unit) const { return links_.data() + start_[unit + 1]; }

private:
    std::vector<std::size_t> start_;
    std::vector<Link> links_;  // parallel ones stay apart; they add up where they are read
};

// A block per unit and a label per block.
struct Blocks {
    std::vector<Index> of_unit, label;
};

// `Costs` gives cost(unit, label).
template <class Costs>
class LocalSearch {
public:
    LocalSearch(const UnitGraph& graph, const Costs& costs, Index num_labels,
                const std::vector<char>& partitionable, Blocks& blocks)
        : graph_(graph),
          costs_(costs),
          num_labels_(num_labels),
          partitionable_(partitionable),
          blocks_(blocks),
          size_(blocks.label.size(), 0),
          of_label_(num_labels, kNone),
          attraction_(blocks.label.size(), 0),
          cheapest_(graph.size(), std::numeric_limits<double>::infinity()) {
        for (Index block : blocks.of_unit) ++size_[block];
        for (Index block = 0; block < size_.size(); ++block)
            if (size_[block] == 0)
                free_.push_back(block);
            else if (!partitionable[blocks.label[block]])
                of_label_[blocks.label[block]] = block;
        for (Index label = 0; label < num_labels; ++label) {
            check_interrupt();
            for (Index unit = 0; unit < graph.size(); ++unit)
                cheapest_[unit] = std::min(cheapest_[unit], double(costs(unit, label)));
        }
    }

    // Visits all units, or only those that their block repels, then the neighbours of whatever
    // moved. Returns the number of moves.
    std::size_t run(bool only_repelled) {
        std::deque<Index> queue;
        std::vector<char> queued(graph_.size(), 1);
        for (Index unit = 0; unit < graph_.size(); ++unit) queue.push_back(unit);
        std::size_t moves = 0, visits = std::size_t(graph_.size()) * kVisits;
        StepCounter step;
        while (!queue.empty() && visits-- > 0) {
            step();
            const Index unit = queue.front();
            queue.pop_front();
            queued[unit] = 0;
            if (!visit(unit, only_repelled)) continue;
            ++moves;
            for (auto link = graph_.begin(unit); link != graph_.end(unit); ++link)
                if (!queued[link->unit]) {
                    queued[link->unit] = 1;
                    queue.push_back(link->unit);
                }
        }
        return moves;
    }

private:
    static constexpr std::size_t kVisits = 32;  // per unit; a bound that is hardly ever reached

    struct Target {
        double cost;
        Index block, label;  // no block: a new one of that label
    };

    bool visit(Index unit, bool only_repelled) {
        touched_.clear();
        for (auto link = graph_.begin(unit); link != graph_.end(unit); ++link) {
            const Index block = blocks_.of_unit[link->unit];
            if (attraction_[block] == 0) touched_.push_back(block);
            attraction_[block] += link->cost;
        }
        const Index block = blocks_.of_unit[unit], label = blocks_.label[block];
        const double pull = attraction_[block], now = costs_(unit, label) - pull;
        Target best{now, block, label};
        if (!only_repelled || pull < 0) best = best_target(unit, best);
        for (Index other : touched_) attraction_[other] = 0;
        // Rounding must not let two equal solutions alternate.
        if (best.cost >= now - 1e-9 * (1 + std::abs(now))) return false;
        move(unit, best);
        return true;
    }

    Target best_target(Index unit, Target best) const {
        for (Index block : touched_) {
            const Index label = blocks_.label[block];
            const double cost = costs_(unit, label) - attraction_[block];
            if (cost < best.cost) best = {cost, block, label};
        }
        if (cheapest_[unit] >= best.cost) return best;  // no label alone can pay
        for (Index label = 0; label < num_labels_; ++label) {
            const Index block = of_label_[label];
            if (block != kNone && attraction_[block] != 0) continue;  // a neighbour: seen above
            const double cost = costs_(unit, label);
            if (cost < best.cost) best = {cost, block, label};
        }
        return best;
    }

    void move(Index unit, const Target& target) {
        const Index from = blocks_.of_unit[unit];
        if (--size_[from] == 0) {
            free_.push_back(from);
            if (of_label_[blocks_.label[from]] == from) of_label_[blocks_.label[from]] = kNone;
        }
        const Index to = target.block == kNone ? new_block(target.label) : target.block;
        blocks_.of_unit[unit] = to;
        ++size_[to];
    }

    Index new_block(Index label) {
        if (free_.empty()) {
            free_.push_back(Index(size_.size()));
            size_.push_back(0);
            attraction_.push_back(0);
            blocks_.label.push_back(label);
        }
        const Index block = free_.back();
        free_.pop_back();
        blocks_.label[block] = label;
        if (!partitionable_[label]) of_label_[label] = block;
        return block;
    }

    const UnitGraph& graph_;
    const Costs& costs_;
    Index num_labels_;
    const std::vector<char>& partitionable_;
    Blocks& blocks_;
    std::vector<Index> size_, of_label_, free_, touched_;
    std::vector<double> attraction_;  // of the blocks around a unit; zero in between
    std::vector<double> cheapest_;
};

// Label costs of regions.
class RegionCosts {
public:
    template <class In>
    RegionCosts(const NodeCosts<In>& costs, const std::vector<Index>& region, Index count)
        : num_labels_(costs.num_labels), sums_(std::size_t(count) * costs.num_labels, 0) {
        for (Index label = 0; label < num_labels_; ++label) {
            check_interrupt();
            for (Index node = 0; node < costs.num_nodes; ++node)
                sums_[std::size_t(region[node]) * num_labels_ + label] += costs(node, label);
        }
    }

    double operator()(Index region, Index label) const {
        return sums_[std::size_t(region) * num_labels_ + label];
    }

private:
    Index num_labels_;
    std::vector<double> sums_;
};

template <class In>
class Improver {
public:
    Improver(const Topology& topology, const NodeCosts<In>& node_costs,
             const std::vector<const In*>& edge_costs, const std::vector<char>& partitionable,
             Clustering& clusters)
        : topology_(topology),
          node_costs_(node_costs),
          edge_costs_(edge_costs),
          partitionable_(partitionable),
          clusters_(clusters) {}

    // Moves regions that gluing would join to a block at a price, where another label is cheaper.
    void avoid_costly_gluing() { improve_regions(true); }

    void search(Index rounds) {
        for (Index round = 0; round < rounds; ++round) {
            const std::size_t moves = improve_regions(false);
            if (improve_nodes() + moves == 0) return;
        }
    }

private:
    std::size_t improve_regions(bool only_repelled) {
        const Partition regions = number_components(clusters_);
        const Index count = Index(regions.root.size());
        const UnitGraph graph(topology_, edge_costs_, regions.component, count);
        const RegionCosts costs(node_costs_, regions.component, count);
        Blocks blocks = make_blocks(regions);
        const std::size_t moves = run(graph, costs, blocks, only_repelled);
        if (moves) write_back(spread(blocks, regions), blocks.label);
        return moves;
    }

    std::size_t improve_nodes() {
        const Partition regions = number_components(clusters_);
        std::vector<Index> node(topology_.num_nodes());
        std::iota(node.begin(), node.end(), Index(0));
        const UnitGraph graph(topology_, edge_costs_, node, topology_.num_nodes());
        Blocks blocks = make_blocks(regions);
        blocks.of_unit = spread(blocks, regions);
        const std::size_t moves = run(graph, node_costs_, blocks, false);
        if (moves) write_back(blocks.of_unit, blocks.label);
        return moves;
    }

    template <class Costs>
    std::size_t run(const UnitGraph& graph, const Costs& costs, Blocks& blocks,
                    bool only_repelled) const {
        const Index num_labels = node_costs_.num_labels;
        return LocalSearch<Costs>(graph, costs, num_labels, partitionable_, blocks)
            .run(only_repelled);
    }

    // Blocks of nodes from blocks of regions.
    static std::vector<Index> spread(const Blocks& blocks, const Partition& regions) {
        std::vector<Index> block(regions.component.size());
        for (std::size_t node = 0; node < block.size(); ++node)
            block[node] = blocks.of_unit[regions.component[node]];
        return block;
    }

    // One block per region, but one for all regions of a label that may not be partitioned.
    Blocks make_blocks(const Partition& regions) const {
        const Index count = Index(regions.root.size());
        Blocks blocks{std::vector<Index>(count), std::vector<Index>(count)};
        std::vector<Index> first(node_costs_.num_labels, kNone);
        for (Index region = 0; region < count; ++region) {
            const Index label = regions.label[regions.root[region]];
            blocks.label[region] = label;
            blocks.of_unit[region] = region;
            if (partitionable_[label]) continue;
            if (first[label] == kNone) first[label] = region;
            blocks.of_unit[region] = first[label];
        }
        return blocks;
    }

    // Clusters are the connected parts of blocks.
    void write_back(const std::vector<Index>& block, const std::vector<Index>& label) {
        for (Index node = 0; node < block.size(); ++node) {
            clusters_.label[node] = label[block[node]];
            clusters_.root[node] = node;
            clusters_.size[node] = 1;
        }
        join_where(topology_, clusters_, [&](Index a, Index b) { return block[a] == block[b]; });
    }

    const Topology& topology_;
    const NodeCosts<In>& node_costs_;
    const std::vector<const In*>& edge_costs_;
    const std::vector<char>& partitionable_;
    Clustering& clusters_;
};

}  // namespace amwc
}  // namespace mmpanoptic
