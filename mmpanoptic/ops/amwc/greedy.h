// Greedy contraction for the asymmetric (AMWC) and the symmetric multiway cut (MWC).
//
// Every node starts as a cluster with its cheapest label. The edge whose contraction lowers the
// objective most is contracted, the joint cluster takes the label that is cheapest for both, and
// so on until no contraction pays. See docs/amwc.md.
#pragma once

#include "contraction_graph.h"
#include "entry_queue.h"
#include "label_costs.h"

namespace mmpanoptic {
namespace amwc {

enum class Problem { kAsymmetric, kSymmetric };

// What is known of a node: its label and the root of its cluster (a node inside it).
struct Clustering {
    std::vector<Index> label, root, size;  // size is right at roots
};

// Gains as the published solver has them: rows hold full costs, sums are taken in its order, and an
// entry keeps the label that it was pushed with.
template <class Real>
class PublishedGains {
public:
    static constexpr bool kRevalidate = false;

    template <class In>
    PublishedGains(const NodeCosts<In>& costs, Index num_edges)
        : costs_(costs), label_(costs.num_nodes), joint_(num_edges) {
        for (Index node = 0; node < costs.num_nodes; ++node) label_[node] = costs_.argmin(node);
    }

    Index label(Index node) const { return label_[node]; }

    // Change of the objective if the edge is contracted.
    Real evaluate(const Edge<Real>& edge, Index number) {
        const Index a = edge.first, b = edge.second;
        const Index label = joint_[number] = costs_.argmin_of_sum(a, b);
        const Real apart = (edge.cost + costs_.row(a)[label_[a]]) + costs_.row(b)[label_[b]];
        return (costs_.row(a)[label] + costs_.row(b)[label]) - apart;
    }

    void merge(Index kept, Index gone, Index number) {
        costs_.add(kept, gone);
        label_[kept] = joint_[number];
    }

    // Takes another label of exactly equal cost, the first there is.
    bool relabel_free(Index node) {
        const Real* row = costs_.row(node);
        for (Index label = 0; label < costs_.num_labels(); ++label)
            if (label != label_[node] && row[label] == row[label_[node]]) {
                label_[node] = label;
                return true;
            }
        return false;
    }

private:
    LabelCosts<Real> costs_;
    std::vector<Index> label_, joint_;
};

// The same gains from rows whose minimum is kept at zero. Clusters of one label then gain the
// edge's cost without a look at their rows, and an edge that repels joins nothing.
template <class Real>
class RowGains {
public:
    static constexpr bool kRevalidate = true;

    template <class In>
    RowGains(const NodeCosts<In>& costs, Index) : costs_(costs), label_(costs.num_nodes) {
        for (Index node = 0; node < costs.num_nodes; ++node) settle(node);
    }

    Index label(Index node) const { return label_[node]; }

    // Where the edge repels and the labels differ this is a lower bound, not below zero.
    Real evaluate(const Edge<Real>& edge, Index) const {
        if (edge.cost <= 0 || label_[edge.first] == label_[edge.second]) return -edge.cost;
        return costs_.min_of_sum(edge.first, edge.second) - edge.cost;
    }

    void merge(Index kept, Index gone, Index) {
        const bool same = label_[kept] == label_[gone];
        costs_.add(kept, gone);
        if (!same) settle(kept);
    }

    bool relabel_free(Index node) {
        const Real* row = costs_.row(node);
        for (Index label = 0; label < costs_.num_labels(); ++label)
            if (label != label_[node] && row[label] == 0) {
                label_[node] = label;
                return true;
            }
        return false;
    }

private:
    void settle(Index node) {
        label_[node] = costs_.argmin(node);
        costs_.subtract(node, costs_.row(node)[label_[node]]);
    }

    LabelCosts<Real> costs_;
    std::vector<Index> label_;
};

template <class Real, class Gains>
class GreedySolver {
public:
    template <class In>
    GreedySolver(Problem problem, const Topology& topology, const NodeCosts<In>& node_costs,
                 const std::vector<const In*>& edge_costs)
        : symmetric_(problem == Problem::kSymmetric),
          graph_(topology, edge_costs),
          gains_(node_costs, graph_.num_edges()),
          root_(topology.num_nodes()),
          size_(topology.num_nodes(), 1) {
        for (Index node = 0; node < graph_.num_nodes(); ++node) root_[node] = node;
    }

    Clustering solve() {
        fill_queue();
        Entry<Real> entry;
        StepCounter step;
        const auto valid = [this](const Entry<Real>& waiting) {
            return graph_.edge(waiting.edge()).key == waiting.delta();
        };
        while (queue_.pop(entry, valid)) {
            step();
            const Index ahead = queue_.upcoming(16);
            if (ahead != kNone) MMPANOPTIC_PREFETCH(&graph_.edge(ahead));
            const Index number = entry.edge();
            Edge<Real>& edge = graph_.edge(number);
            if (!valid(entry)) continue;  // outdated, or the edge is gone
            Real delta = entry.delta();
            if (Gains::kRevalidate && !still_valid(edge, number, delta)) continue;
            if (delta >= 0 && !worth_joining(edge)) continue;
            join(number);
        }
        return read_out();
    }

private:
    bool offered(Real delta, const Edge<Real>& edge) const {
        if (!symmetric_) return delta < 0;
        return delta <= 0 || gains_.label(edge.first) == gains_.label(edge.second);
    }

    void fill_queue() {
        StepCounter step;
        for (Index number = 0; number < graph_.num_edges(); ++number) {
            step();
            if (!graph_.alive(number)) continue;  // a parallel edge
            Edge<Real>& edge = graph_.edge(number);
            const Real delta = gains_.evaluate(edge, number);
            if (!symmetric_ && !(delta < 0)) continue;
            edge.key = delta;
            queue_.push(delta, number);
        }
    }

    // The clusters of an entry may have changed since it was pushed: if its gain has shrunk it goes
    // back with what is left of it.
    bool still_valid(Edge<Real>& edge, Index number, Real& delta) {
        delta = gains_.evaluate(edge, number);
        if (delta <= edge.key) return true;
        edge.key = std::numeric_limits<Real>::quiet_NaN();
        offer(delta, edge, number);
        return false;
    }

    void offer(Real delta, Edge<Real>& edge, Index number) {
        if (!offered(delta, edge)) return;
        edge.key = delta;
        queue_.push(delta, number);
    }

    // MWC only: clusters of one label are one segment anyway, so they are joined at any price
    // unless one of them can change its label for nothing.
    bool worth_joining(Edge<Real>& edge) {
        edge.key = std::numeric_limits<Real>::quiet_NaN();
        if (gains_.label(edge.first) != gains_.label(edge.second)) return false;
        return !gains_.relabel_free(edge.first) && !gains_.relabel_free(edge.second);
    }

    void join(Index number) {
        const Edge<Real>& edge = graph_.edge(number);
        Index kept = edge.first, gone = edge.second;
        const Index root = size_[kept] >= size_[gone] ? root_[kept] : root_[gone];
        if (graph_.degree(kept) < graph_.degree(gone)) std::swap(kept, gone);
        gains_.merge(kept, gone, number);
        root_[kept] = root;
        size_[kept] += size_[gone];
        graph_.contract(kept, gone, [this](Index moved) {
            Edge<Real>& edge = graph_.edge(moved);
            offer(gains_.evaluate(edge, moved), edge, moved);
        });
    }

    Clustering read_out() {
        const Index count = graph_.num_nodes();
        Clustering out{std::vector<Index>(count), std::vector<Index>(count),
                       std::vector<Index>(count)};
        for (Index node = 0; node < count; ++node) {
            const Index kept = graph_.find(node);
            out.label[node] = gains_.label(kept);
            out.root[node] = root_[kept];
            out.size[root_[kept]] = size_[kept];
        }
        return out;
    }

    bool symmetric_;
    ContractionGraph<Real> graph_;
    Gains gains_;
    EntryQueue<Real> queue_;
    std::vector<Index> root_, size_;
};

template <class Real, class In>
Clustering solve_greedy(bool published, Problem problem, const Topology& topology,
                        const NodeCosts<In>& node_costs, const std::vector<const In*>& edge_costs) {
    if (published)
        return GreedySolver<Real, PublishedGains<Real>>(problem, topology, node_costs, edge_costs)
            .solve();
    return GreedySolver<Real, RowGains<Real>>(problem, topology, node_costs, edge_costs).solve();
}

}  // namespace amwc
}  // namespace mmpanoptic
