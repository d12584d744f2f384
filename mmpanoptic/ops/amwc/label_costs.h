// One row of label costs per cluster, padded so that sums and minima run in vector registers.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "topology.h"

namespace mmpanoptic {
namespace amwc {

// Where node costs lie in the caller's array: (K, N) planes or (N, K) rows.
template <class In>
struct NodeCosts {
    const In* data;
    Index num_nodes, num_labels;
    bool planes;

    In operator()(Index node, Index label) const {
        return planes ? data[std::size_t(label) * num_nodes + node]
                      : data[std::size_t(node) * num_labels + label];
    }
};

template <class Real>
class LabelCosts {
public:
    static constexpr Index kLanes = 16 / sizeof(Real);

    template <class In>
    explicit LabelCosts(const NodeCosts<In>& costs)
        : num_labels_(costs.num_labels),
          stride_((costs.num_labels + kLanes - 1) / kLanes * kLanes),
          rows_(std::size_t(costs.num_nodes) * stride_, std::numeric_limits<Real>::infinity()) {
        constexpr Index block = 64;  // rows of a block stay in the first cache
        for (Index begin = 0; begin < costs.num_nodes; begin += block) {
            const Index end = std::min(begin + block, costs.num_nodes);
            for (Index label = 0; label < num_labels_; ++label)
                for (Index node = begin; node < end; ++node)
                    row(node)[label] = Real(costs(node, label));
        }
    }

    Index num_labels() const { return num_labels_; }
    Real* row(Index node) { return rows_.data() + std::size_t(node) * stride_; }
    const Real* row(Index node) const { return rows_.data() + std::size_t(node) * stride_; }

    // Smallest sum of two rows.
    Real min_of_sum(Index a, Index b) const {
        const Real *x = row(a), *y = row(b);
        Real best[kLanes];
        for (Index lane = 0; lane < kLanes; ++lane) best[lane] = x[lane] + y[lane];
        for (Index k = kLanes; k < stride_; k += kLanes)
            for (Index lane = 0; lane < kLanes; ++lane) {
                const Real sum = x[k + lane] + y[k + lane];
                best[lane] = sum < best[lane] ? sum : best[lane];
            }
        return *std::min_element(best, best + kLanes);
    }

    // The last label with the smallest sum; the published solver compares with <=.
    Index argmin_of_sum(Index a, Index b) const {
        const Real best = min_of_sum(a, b);
        const Real *x = row(a), *y = row(b);
        Index label = num_labels_ - 1;
        while (label > 0 && x[label] + y[label] != best) --label;
        return label;
    }

    void add(Index to, Index from) {
        Real* x = row(to);
        const Real* y = row(from);
        for (Index k = 0; k < stride_; ++k) x[k] += y[k];
    }

    // The last label with the smallest cost.
    Index argmin(Index node) const {
        const Real* x = row(node);
        Index best = 0;
        for (Index label = 1; label < num_labels_; ++label)
            if (x[label] <= x[best]) best = label;
        return best;
    }

    // Makes the smallest cost of a row zero: small differences then keep their precision however
    // large the cluster grows.
    void subtract(Index node, Real value) {
        Real* x = row(node);
        for (Index k = 0; k < stride_; ++k) x[k] -= value;
    }

private:
    Index num_labels_, stride_;
    std::vector<Real> rows_;
};

}  // namespace amwc
}  // namespace mmpanoptic
