// Which nodes an edge joins: a regular grid with several edge lengths, or any list of pairs.
//
// A grid is never spelled out as a list: its edges are enumerated from shapes, in the order of the
// cost arrays (per distance all row edges in raster order of the stored position, then all column
// edges). Edge numbers, ties and cut masks follow this order.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "interrupt.h"

namespace mmpanoptic {
namespace amwc {

using Index = std::uint32_t;
constexpr Index kNone = std::numeric_limits<Index>::max();

// Edges of one distance and direction. The position (a, b) of the stored array is the centre
// (a * step, b * step); the edge joins the nodes `before` steps ahead of it and `after` behind.
struct EdgeBlock {
    Index array = 0;                   // which cost array
    std::size_t offset = 0;            // of the array's channel
    Index width = 0;                   // of the stored array
    Index row_begin = 0, row_end = 0;  // stored positions that have an edge
    Index col_begin = 0, col_end = 0;
    Index step = 1;
    std::int64_t before = 0, after = 0;  // shifts of the node index

    std::size_t size() const {
        return std::size_t(row_end - row_begin) * (col_end - col_begin);
    }
};

class Topology {
public:
    // Edge lengths and sampling intervals have been checked by the caller.
    static Topology grid(Index height, Index width, const std::vector<Index>& distances,
                         const std::vector<Index>& sampling) {
        Topology topology;
        topology.num_nodes_ = height * width;
        topology.width_ = width;
        for (std::size_t i = 0; i < distances.size(); ++i)
            for (int axis = 0; axis < 2; ++axis)
                topology.add_block(height, width, Index(i), distances[i], sampling[i], axis);
        return topology;
    }

    // `pairs` holds 2 * num_edges node numbers and must outlive the topology.
    static Topology graph(Index num_nodes, const Index* pairs, std::size_t num_edges) {
        Topology topology;
        topology.num_nodes_ = num_nodes;
        topology.num_edges_ = num_edges;
        topology.pairs_ = pairs;
        return topology;
    }

    Index num_nodes() const { return num_nodes_; }
    std::size_t num_edges() const { return num_edges_; }
    bool is_grid() const { return pairs_ == nullptr; }

    // Calls visit(first node, second node, cost array, position in it) with first < second.
    template <class Visit>
    void for_each_edge(Visit visit) const {
        if (!is_grid()) {
            StepCounter step;
            for (std::size_t e = 0; e < num_edges_; ++e) {
                step();
                const Index a = pairs_[2 * e], b = pairs_[2 * e + 1];
                visit(a < b ? a : b, a < b ? b : a, Index(0), e);
            }
            return;
        }
        for (const EdgeBlock& block : blocks_) {
            for (Index row = block.row_begin; row < block.row_end; ++row) {
                check_interrupt();
                const std::int64_t line = std::int64_t(row) * block.step * width_;
                const std::size_t stored = block.offset + std::size_t(row) * block.width;
                for (Index col = block.col_begin; col < block.col_end; ++col) {
                    const std::int64_t centre = line + std::int64_t(col) * block.step;
                    visit(Index(centre + block.before), Index(centre + block.after), block.array,
                          stored + col);
                }
            }
        }
    }

private:
    void add_block(Index height, Index width, Index array, Index distance, Index step, int axis) {
        const Index left = distance == 1 ? 0 : distance / 2;
        const Index right = distance == 1 ? 1 : distance / 2;
        const auto up = [step](Index value) { return (value + step - 1) / step; };
        const auto end = [&](Index size) {
            const Index stored = up(size), margin = up(right);
            return stored > margin ? stored - margin : 0;
        };
        EdgeBlock block;
        block.array = array;
        block.step = step;
        block.width = up(width);
        block.offset = std::size_t(axis) * up(height) * block.width;
        block.row_end = up(height);
        block.col_end = block.width;
        const std::int64_t stride = axis == 0 ? width : 1;
        (axis == 0 ? block.row_begin : block.col_begin) = up(left);
        (axis == 0 ? block.row_end : block.col_end) = end(axis == 0 ? height : width);
        block.before = -std::int64_t(left) * stride;
        block.after = std::int64_t(right) * stride;
        if (block.row_begin >= block.row_end || block.col_begin >= block.col_end) return;
        num_edges_ += block.size();
        blocks_.push_back(block);
    }

    Index num_nodes_ = 0, width_ = 0;
    std::size_t num_edges_ = 0;
    const Index* pairs_ = nullptr;
    std::vector<EdgeBlock> blocks_;
};

}  // namespace amwc
}  // namespace mmpanoptic
