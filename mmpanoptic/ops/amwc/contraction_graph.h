// A graph whose edges can be contracted, with costs of parallel edges summed.
//
// Small neighbourhoods are arrays of (node, edge) that are cleaned when they are read; a neighbour
// that was merged away in the meantime is found through the union of nodes. Large neighbourhoods
// are hash tables that are kept exact. So a contraction costs about the degree of the smaller side.
#pragma once

#include <algorithm>
#include <memory>

#include "topology.h"

#if defined(__GNUC__) || defined(__clang__)
#define MMPANOPTIC_PREFETCH(address) __builtin_prefetch(address)
#else
#define MMPANOPTIC_PREFETCH(address) ((void)0)
#endif

namespace mmpanoptic {
namespace amwc {

// `key` is the gain of the edge's valid queue entry, NaN if it has none.
template <class Real>
struct Edge {
    Index first, second;
    Real cost, key;
};

struct Half {
    Index node, edge;
};

// Neighbours of one node by number: open addressing, no tombstones.
class NeighbourTable {
public:
    explicit NeighbourTable(Index expected) {
        Index capacity = 256;
        while (capacity < expected * 2) capacity *= 2;
        reset(capacity);
    }

    Index find(Index node) const {
        for (Index at = home(node); slots_[at].node != kNone; at = (at + 1) & mask_)
            if (slots_[at].node == node) return slots_[at].edge;
        return kNone;
    }

    void insert(Index node, Index edge) {
        if ((size_ + 1) * 2 > mask_ + 1) grow();
        Index at = home(node);
        while (slots_[at].node != kNone) at = (at + 1) & mask_;
        slots_[at] = {node, edge};
        ++size_;
    }

    void erase(Index node) {
        Index at = home(node);
        while (slots_[at].node != node) at = (at + 1) & mask_;
        for (Index next = (at + 1) & mask_; slots_[next].node != kNone; next = (next + 1) & mask_) {
            // An element moves back unless that would bring it before its home.
            if (((next - home(slots_[next].node)) & mask_) >= ((next - at) & mask_)) {
                slots_[at] = slots_[next];
                at = next;
            }
        }
        slots_[at].node = kNone;
        --size_;
    }

    void prefetch(Index node) const { MMPANOPTIC_PREFETCH(&slots_[home(node)]); }

    template <class Visit>
    void for_each(Visit visit) const {
        for (const Half& half : slots_)
            if (half.node != kNone) visit(half);
    }

private:
    Index home(Index node) const { return Index((node * 0x9E3779B97F4A7C15ull) >> 32) & mask_; }

    void reset(Index capacity) {
        slots_.assign(capacity, Half{kNone, kNone});
        mask_ = capacity - 1;
        size_ = 0;
    }

    void grow() {
        std::vector<Half> old;
        old.swap(slots_);
        reset((mask_ + 1) * 2);
        for (const Half& half : old)
            if (half.node != kNone) insert(half.node, half.edge);
    }

    std::vector<Half> slots_;
    Index mask_ = 0, size_ = 0;
};

template <class Real>
class ContractionGraph {
public:
    // `costs[a]` is the cost array that the topology calls `a`.
    template <class In>
    ContractionGraph(const Topology& topology, const std::vector<const In*>& costs)
        : lists_(topology.num_nodes()),
          nodes_(topology.num_nodes(), Node{0, 0, 0, 0}),
          has_table_(topology.num_nodes(), 0) {
        edges_.reserve(topology.num_edges());
        topology.for_each_edge([&](Index a, Index b, Index array, std::size_t position) {
            edges_.push_back({a, b, Real(costs[array][position]), nan()});
            ++nodes_[a].degree;
            ++nodes_[b].degree;
        });
        dead_.assign((edges_.size() + 63) / 64, 0);
        for (Index node = 0; node < num_nodes(); ++node) nodes_[node].parent = node;
        fill_lists();
        if (!topology.is_grid()) merge_parallel_edges();  // a grid has none
    }

    Index num_nodes() const { return Index(nodes_.size()); }
    Index num_edges() const { return Index(edges_.size()); }
    Edge<Real>& edge(Index number) { return edges_[number]; }
    bool alive(Index number) const { return !(dead_[number / 64] >> (number % 64) & 1); }
    Index degree(Index node) const { return nodes_[node].degree; }

    Index find(Index node) {
        while (nodes_[node].parent != node) {
            Index& parent = nodes_[node].parent;
            parent = nodes_[parent].parent;
            node = parent;
        }
        return node;
    }

    // Merges node `gone` into `kept`, which an edge joins. Afterwards calls update(edge) for every
    // edge that `gone` had to another node; it joins `kept` (its first end) with that node now.
    template <class Update>
    void contract(Index kept, Index gone, Update update) {
        gather(gone);
        NeighbourTable* table = lists_[kept].table.get();
        if (table) {
            for (const Half& half : gathered_) table->prefetch(half.node);
            table->erase(gone);
        } else {
            mark_neighbours(kept, gone);
        }
        nodes_[gone].parent = kept;
        --nodes_[kept].degree;
        moved_.clear();
        for (const Half& half : gathered_) {
            if (half.node == kept) {
                kill(half.edge);
                continue;
            }
            const Index twin = table ? table->find(half.node) : marked(half.node);
            moved_.push_back({half.node, move_edge(half, kept, gone, twin)});
            if (twin == kNone && table) table->insert(half.node, half.edge);
        }
        if (!table) append_new(kept);
        lists_[gone].table.reset();
        has_table_[gone] = 0;
        recycle(lists_[gone]);
        for (const Half& half : moved_) update(half.edge);
    }

    // Calls visit(other node, edge) for the present edges of a node.
    template <class Visit>
    void for_each_neighbour(Index node, Visit visit) {
        gather(node);
        for (const Half& half : gathered_) visit(half.node, half.edge);
    }

private:
    static constexpr Index kTableDegree = 96;  // from here on a table is faster than marking

    // What is looked up of every neighbour lies together.
    struct Node {
        Index parent, degree;
        Index epoch, edge;  // the edge to the node whose neighbours were marked last
    };

    struct List {
        Half* data = nullptr;
        Index size = 0, capacity = 0;
        std::unique_ptr<NeighbourTable> table;
    };

    static Real nan() { return std::numeric_limits<Real>::quiet_NaN(); }

    void kill(Index number) {
        dead_[number / 64] |= std::uint64_t(1) << (number % 64);
        edges_[number].key = nan();
    }

    void fill_lists() {
        std::size_t total = 0;
        storage_.emplace_back(new Half[2 * edges_.size()]);
        Half* base = storage_.back().get();
        for (Index node = 0; node < num_nodes(); ++node) {
            lists_[node].data = base + total;
            lists_[node].capacity = nodes_[node].degree;
            total += nodes_[node].degree;
        }
        for (Index number = 0; number < num_edges(); ++number) {
            const Edge<Real>& edge = edges_[number];
            List &a = lists_[edge.first], &b = lists_[edge.second];
            a.data[a.size++] = {edge.second, number};
            b.data[b.size++] = {edge.first, number};
        }
    }

    // The first of several edges between the same nodes takes the costs of the others.
    void merge_parallel_edges() {
        StepCounter step;
        for (Index node = 0; node < num_nodes(); ++node) {
            step();
            ++epoch_;
            for (Index at = 0; at < lists_[node].size; ++at) {
                const Half half = lists_[node].data[at];
                if (half.node < node || !alive(half.edge)) continue;
                Node& mark = nodes_[half.node];
                if (mark.epoch == epoch_) {
                    edges_[mark.edge].cost += edges_[half.edge].cost;
                    kill(half.edge);
                    --nodes_[node].degree;
                    --mark.degree;
                } else {
                    mark.epoch = epoch_;
                    mark.edge = half.edge;
                }
            }
        }
    }

    // Copies the present neighbours of a node to `gathered_` and frees stale ones.
    void gather(Index node) {
        gathered_.clear();
        List& list = lists_[node];
        if (list.table) {
            list.table->for_each([&](const Half& half) { gathered_.push_back(half); });
        } else {
            prefetch_nodes(list);
            for (Index at = 0; at < list.size; ++at) {
                const Half half = list.data[at];
                if (alive(half.edge)) gathered_.push_back({find(half.node), half.edge});
            }
        }
        for (const Half& half : gathered_) MMPANOPTIC_PREFETCH(&edges_[half.edge]);
    }

    void prefetch_nodes(const List& list) const {
        for (Index at = 0; at < list.size; ++at) MMPANOPTIC_PREFETCH(&nodes_[list.data[at].node]);
    }

    void mark_neighbours(Index node, Index except) {
        List& list = lists_[node];
        prefetch_nodes(list);
        ++epoch_;
        Index live = 0;
        for (Index at = 0; at < list.size; ++at) {
            const Half half = list.data[at];
            if (!alive(half.edge)) continue;
            const Index other = find(half.node);
            if (other == except) continue;
            list.data[live++] = {other, half.edge};
            nodes_[other].epoch = epoch_;
            nodes_[other].edge = half.edge;
        }
        list.size = live;
    }

    Index marked(Index node) const {
        return nodes_[node].epoch == epoch_ ? nodes_[node].edge : kNone;
    }

    // Gives an edge of `gone` to `kept`, or its cost to the edge that `kept` has already.
    Index move_edge(const Half& half, Index kept, Index gone, Index twin) {
        NeighbourTable* table =
            has_table_[half.node] ? lists_[half.node].table.get() : nullptr;
        if (table) table->erase(gone);
        const Index number = twin == kNone ? half.edge : twin;
        Edge<Real>& edge = edges_[number];
        if (twin == kNone) {
            if (table) table->insert(kept, half.edge);
            ++nodes_[kept].degree;
        } else {
            edge.cost += edges_[half.edge].cost;
            kill(half.edge);
            --nodes_[half.node].degree;
        }
        edge.first = kept;
        edge.second = half.node;
        edge.key = nan();
        return number;
    }

    // Adds the moved edges that `node` did not have; a long list becomes a table.
    void append_new(Index node) {
        List& list = lists_[node];
        const Index degree = nodes_[node].degree;
        if (degree > list.capacity) enlarge(list, degree);
        for (const Half& half : moved_)
            if (marked(half.node) == kNone) list.data[list.size++] = half;
        if (list.size <= kTableDegree) return;
        list.table.reset(new NeighbourTable(list.size));
        has_table_[node] = 1;
        for (Index at = 0; at < list.size; ++at)
            list.table->insert(list.data[at].node, list.data[at].edge);
        recycle(list);
    }

    void enlarge(List& list, Index needed) {
        int power = 3;
        while ((Index(1) << power) < needed) ++power;
        Half* data = take(power);
        const Index size = list.size;
        std::copy(list.data, list.data + size, data);
        recycle(list);
        list.data = data;
        list.size = size;
        list.capacity = Index(1) << power;
    }

    void recycle(List& list) {
        int power = 0;
        while ((Index(2) << power) <= list.capacity) ++power;
        if (list.capacity) free_[power].push_back(list.data);
        list.data = nullptr;
        list.size = list.capacity = 0;
    }

    Half* take(int power) {
        if (!free_[power].empty()) {
            Half* data = free_[power].back();
            free_[power].pop_back();
            return data;
        }
        const std::size_t needed = std::size_t(1) << power;
        if (chunk_left_ < needed) {
            chunk_left_ = std::max<std::size_t>(needed, 1 << 15);
            storage_.emplace_back(new Half[chunk_left_]);
            chunk_ = storage_.back().get();
        }
        Half* data = chunk_;
        chunk_ += needed;
        chunk_left_ -= needed;
        return data;
    }

    std::vector<Edge<Real>> edges_;
    std::vector<std::uint64_t> dead_;
    std::vector<List> lists_;
    std::vector<Node> nodes_;
    std::vector<char> has_table_;  // small enough to stay in the cache, unlike the lists
    Index epoch_ = 0;
    std::vector<Half> gathered_, moved_;
    std::vector<std::unique_ptr<Half[]>> storage_;
    std::vector<Half*> free_[32];
    Half* chunk_ = nullptr;
    std::size_t chunk_left_ = 0;
};

}  // namespace amwc
}  // namespace mmpanoptic
