// Priority queue of join gains, smallest first.
//
// Most entries are outdated when their turn comes. So entries wait unsorted in buckets of similar
// gain; when a bucket's turn comes, the outdated ones are thrown away and the rest is sorted. A
// small heap takes what is pushed into the current bucket or before it. The order of popping is
// exactly that of (gain, tie-breaker).
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "topology.h"

namespace mmpanoptic {
namespace amwc {

// Maps floating-point numbers to unsigned integers of the same order.
inline std::uint32_t sortable(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits ^ (bits >> 31 ? 0xFFFFFFFFu : 0x80000000u);
}
inline std::uint64_t sortable(double value) {
    std::uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits ^ (bits >> 63 ? ~std::uint64_t(0) : std::uint64_t(1) << 63);
}

template <class Real>
struct Entry;

// Gain and edge in one word; equal gains go to the edge with the smaller number.
template <>
struct Entry<float> {
    std::uint64_t word;

    Entry() = default;
    Entry(float delta, Index edge, Index) : word(std::uint64_t(sortable(delta)) << 32 | edge) {}
    std::uint64_t key() const { return word; }
    Index edge() const { return Index(word); }
    float delta() const {
        const std::uint32_t order = std::uint32_t(word >> 32);
        const std::uint32_t bits = order ^ (order >> 31 ? 0x80000000u : 0xFFFFFFFFu);
        float value;
        std::memcpy(&value, &bits, sizeof value);
        return value;
    }
    bool operator<(const Entry& other) const { return word < other.word; }
};

// Equal gains go to the entry that was pushed first.
template <>
struct Entry<double> {
    double delta_;
    Index edge_, order_;

    Entry() = default;
    Entry(double delta, Index edge, Index order) : delta_(delta), edge_(edge), order_(order) {}
    std::uint64_t key() const { return sortable(delta_); }
    Index edge() const { return edge_; }
    double delta() const { return delta_; }
    bool operator<(const Entry& other) const {
        return delta_ < other.delta_ || (delta_ == other.delta_ && order_ < other.order_);
    }
};

template <class Real>
class EntryQueue {
public:
    EntryQueue() : waiting_(std::size_t(1) << kBucketBits) {}

    // Adding 0 turns -0 into +0, which sorts and compares as the same number.
    void push(Real delta, Index edge) {
        const Entry<Real> entry(delta + Real(0), edge, count_++);
        const std::size_t bucket = entry.key() >> (64 - kBucketBits);
        if (bucket >= next_bucket_)
            waiting_[bucket].push_back(entry);
        else
            sift_up(entry);
    }

    // Takes the first entry; `valid` tells outdated ones, which may be left out.
    template <class Valid>
    bool pop(Entry<Real>& out, Valid valid) {
        while (heap_.empty() && next_ == sorted_.size())
            if (!open_bucket(valid)) return false;
        if (heap_.empty() || (next_ < sorted_.size() && sorted_[next_] < heap_[0])) {
            out = sorted_[next_++];
            return true;
        }
        out = heap_[0];
        const Entry<Real> last = heap_.back();
        heap_.pop_back();
        if (!heap_.empty()) sift_down(last);
        return true;
    }

    // The edge that will be read `ahead` entries later, for prefetching.
    Index upcoming(std::size_t ahead) const {
        return next_ + ahead < sorted_.size() ? sorted_[next_ + ahead].edge() : kNone;
    }

private:
    // Sign, exponent and four bits of the mantissa of a float.
    static constexpr int kBucketBits = 13;

    template <class Valid>
    bool open_bucket(Valid valid) {
        while (next_bucket_ < waiting_.size() && waiting_[next_bucket_].empty()) ++next_bucket_;
        if (next_bucket_ == waiting_.size()) return false;
        sorted_.clear();
        next_ = 0;
        std::vector<Entry<Real>>& bucket = waiting_[next_bucket_++];
        for (const Entry<Real>& entry : bucket)
            if (valid(entry)) sorted_.push_back(entry);
        std::vector<Entry<Real>>().swap(bucket);
        std::sort(sorted_.begin(), sorted_.end());
        return true;
    }

    // A heap with four children per node.
    void sift_up(const Entry<Real>& entry) {
        std::size_t at = heap_.size();
        heap_.push_back(entry);
        while (at > 0) {
            const std::size_t parent = (at - 1) / 4;
            if (!(entry < heap_[parent])) break;
            heap_[at] = heap_[parent];
            at = parent;
        }
        heap_[at] = entry;
    }

    void sift_down(const Entry<Real>& entry) {
        std::size_t at = 0;
        const std::size_t size = heap_.size();
        for (;;) {
            const std::size_t first = 4 * at + 1;
            if (first >= size) break;
            const std::size_t end = first + 4 < size ? first + 4 : size;
            std::size_t best = first;
            for (std::size_t child = first + 1; child < end; ++child)
                if (heap_[child] < heap_[best]) best = child;
            if (!(heap_[best] < entry)) break;
            heap_[at] = heap_[best];
            at = best;
        }
        heap_[at] = entry;
    }

    std::vector<std::vector<Entry<Real>>> waiting_;
    std::vector<Entry<Real>> sorted_, heap_;
    std::size_t next_ = 0, next_bucket_ = 0;
    Index count_ = 0;
};

}  // namespace amwc
}  // namespace mmpanoptic
