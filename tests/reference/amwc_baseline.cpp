// Multiway cuts as published, from the description of the algorithm and without any cleverness:
// double precision, std::priority_queue, one std::map of neighbours per node. Only tests and
// benchmarks use it.
#include <cstdint>
#include <map>
#include <queue>
#include <utility>
#include <vector>

namespace {

struct Edge {
    double cost;
    std::int64_t stamp;
};

struct Entry {
    double delta;
    std::int64_t order;
    int i, j, label;
    std::int64_t stamp;
    bool operator<(const Entry& other) const {  // the queue's top is the largest
        return delta > other.delta || (delta == other.delta && order > other.order);
    }
};

struct Solver {
    int num_nodes, num_labels;
    std::vector<std::vector<double>> costs;
    std::vector<int> label, parent, size;
    std::vector<std::map<int, Edge>> neighbours;
    std::priority_queue<Entry> queue;
    std::int64_t order = 0;

    int root(int node) {
        while (parent[node] != node) node = parent[node] = parent[parent[node]];
        return node;
    }

    Entry evaluate(double cost, int i, int j, std::int64_t stamp) {
        const int a = root(i), b = root(j);
        int best = 0;
        for (int l = 1; l < num_labels; ++l)
            if (costs[a][l] + costs[b][l] <= costs[a][best] + costs[b][best]) best = l;
        const double apart = (cost + costs[a][label[a]]) + costs[b][label[b]];
        return {costs[a][best] + costs[b][best] - apart, order++, i, j, best, stamp};
    }

    void join(int i, int j) {
        int a = root(i), b = root(j);
        if (size[a] < size[b]) std::swap(a, b);
        parent[b] = a;
        size[a] += size[b];
        for (int l = 0; l < num_labels; ++l) costs[a][l] += costs[b][l];
    }

    bool relabel(int node) {
        const int at = root(node);
        for (int l = 0; l < num_labels; ++l)
            if (l != label[at] && costs[at][l] == costs[at][label[at]]) {
                label[at] = l;
                return true;
            }
        return false;
    }

    void contract(int i, int j, bool symmetric) {
        const bool swap = neighbours[i].size() < neighbours[j].size();
        const int stable = swap ? j : i, gone = swap ? i : j;
        const std::map<int, Edge> moved = neighbours[gone];
        for (const auto& [other, edge] : moved) {
            neighbours[other].erase(gone);
            if (other == stable) continue;
            auto [at, is_new] = neighbours[stable].insert({other, edge});
            if (is_new) {
                at->second.stamp = 0;
            } else {
                at->second.cost += edge.cost;
                at->second.stamp += 1;
            }
            neighbours[other][stable] = at->second;
            const Entry entry = evaluate(at->second.cost, stable, other, at->second.stamp);
            if (entry.delta <= 0 || (symmetric && label[root(stable)] == label[root(other)]))
                queue.push(entry);
        }
        neighbours[gone].clear();
    }

    void run(bool symmetric) {
        while (!queue.empty()) {
            const Entry entry = queue.top();
            queue.pop();
            const auto edge = neighbours[entry.i].find(entry.j);
            if (edge == neighbours[entry.i].end() || entry.stamp < edge->second.stamp) continue;
            if (entry.delta >= 0) {
                if (!symmetric) return;
                if (label[root(entry.i)] != label[root(entry.j)]) continue;
                if (relabel(entry.i) || relabel(entry.j)) continue;
            }
            join(entry.i, entry.j);
            label[root(entry.i)] = entry.label;
            contract(entry.i, entry.j, symmetric);
        }
    }
};

}  // namespace

// node_costs (N, K), edges (E, 2) with the smaller node first, partitionable (K,) or null for the
// symmetric problem; writes labels and roots (N,) and returns the objective.
extern "C" double solve(int num_nodes, int num_labels, std::int64_t num_edges,
                        const float* node_costs, const std::int32_t* edges,
                        const float* edge_costs, const std::uint8_t* partitionable,
                        std::int32_t* labels, std::int32_t* roots) {
    const bool symmetric = partitionable == nullptr;
    Solver solver;
    solver.num_nodes = num_nodes;
    solver.num_labels = num_labels;
    solver.neighbours.resize(num_nodes);
    for (int node = 0; node < num_nodes; ++node) {
        const float* row = node_costs + std::int64_t(node) * num_labels;
        solver.costs.emplace_back(row, row + num_labels);
        int best = 0;
        for (int l = 1; l < num_labels; ++l)
            if (row[l] <= row[best]) best = l;
        solver.label.push_back(best);
        solver.parent.push_back(node);
        solver.size.push_back(1);
    }
    for (std::int64_t e = 0; e < num_edges; ++e) {
        const int i = edges[2 * e], j = edges[2 * e + 1];
        solver.neighbours[i][j] = solver.neighbours[j][i] = {edge_costs[e], 0};
        const Entry entry = solver.evaluate(edge_costs[e], i, j, 0);
        if (symmetric || entry.delta <= 0) solver.queue.push(entry);
    }
    solver.run(symmetric);
    double objective = 0;
    for (int node = 0; node < num_nodes; ++node) {
        labels[node] = solver.label[solver.root(node)];
        objective += node_costs[std::int64_t(node) * num_labels + labels[node]];
    }
    for (std::int64_t e = 0; e < num_edges; ++e) {
        const int i = edges[2 * e], j = edges[2 * e + 1];
        const bool joined = labels[i] == labels[j] && (symmetric || !partitionable[labels[i]]);
        if (!joined) continue;
        int a = solver.root(i), b = solver.root(j);
        if (a == b) continue;
        if (solver.size[a] < solver.size[b]) std::swap(a, b);
        solver.parent[b] = a;
        solver.size[a] += solver.size[b];
    }
    for (int node = 0; node < num_nodes; ++node) roots[node] = solver.root(node);
    for (std::int64_t e = 0; e < num_edges; ++e)
        if (roots[edges[2 * e]] != roots[edges[2 * e + 1]]) objective += edge_costs[e];
    return objective;
}
