// NumPy buffers in, NumPy buffers out; shapes were checked before. No lock is held while solving.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <variant>

#include "solver.h"
#include "thread_team.h"

namespace py = pybind11;

namespace mmpanoptic {
namespace amwc {
namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

// An instance with the arrays that it reads, so that they live as long.
template <class In>
struct Task {
    Instance<In> instance;
    Answer answer;
    py::array labels, components;
    py::list cuts;
    std::vector<py::object> kept;
};

template <class In>
void add_costs(Task<In>& task, const py::dict& given, Index num_nodes, const char* order) {
    const auto costs = given["node_costs"].cast<Array<In>>();
    const bool planes = std::string(order) == "planes";
    const Index num_labels = Index(costs.size() / num_nodes);
    task.instance.node_costs = {costs.data(), num_nodes, num_labels, planes};
    task.kept.push_back(costs);
    for (const py::handle& handle : given["edge_costs"].cast<py::list>()) {
        const auto array = handle.cast<Array<In>>();
        task.instance.edge_costs.push_back(array.data());
        task.kept.push_back(array);
        if (given["return_cuts"].cast<bool>()) {
            const std::vector<py::ssize_t> shape(array.shape(), array.shape() + array.ndim());
            Array<std::uint8_t> cut(shape);
            std::fill_n(cut.mutable_data(), cut.size(), std::uint8_t(0));
            task.answer.cuts.push_back(cut.mutable_data());
            task.cuts.append(cut);
        }
    }
}

template <class In>
std::unique_ptr<Task<In>> make_task(const py::dict& given) {
    auto task = std::make_unique<Task<In>>();
    Instance<In>& instance = task->instance;
    const auto shape = given["shape"].cast<std::vector<py::ssize_t>>();
    Index num_nodes = 1;
    for (py::ssize_t side : shape) num_nodes *= Index(side);
    if (shape.size() == 2) {
        instance.topology = Topology::grid(Index(shape[0]), Index(shape[1]),
                                           given["distances"].cast<std::vector<Index>>(),
                                           given["sampling"].cast<std::vector<Index>>());
    } else {
        const auto edges = given["edges"].cast<Array<Index>>();
        instance.topology = Topology::graph(num_nodes, edges.data(), edges.size() / 2);
        task->kept.push_back(edges);
    }
    add_costs(*task, given, num_nodes, shape.size() == 2 ? "planes" : "rows");
    instance.symmetric = given["symmetric"].cast<bool>();
    for (bool flag : given["partitionable"].cast<std::vector<bool>>())
        instance.partitionable.push_back(flag);
    Array<std::int32_t> labels(shape), components(shape);
    task->answer.labels = labels.mutable_data();
    task->answer.components = components.mutable_data();
    task->labels = labels;
    task->components = components;
    return task;
}

Options read_options(const py::dict& given) {
    Options options;
    options.published = given["published"].cast<bool>();
    options.double_precision = given["double_precision"].cast<bool>();
    options.glue_if_it_pays = given["glue_if_it_pays"].cast<bool>();
    options.local_search_rounds = given["local_search_rounds"].cast<Index>();
    options.min_instance_size = given["min_instance_size"].cast<Index>();
    return options;
}

using AnyTask = std::variant<std::unique_ptr<Task<float>>, std::unique_ptr<Task<double>>>;

AnyTask make_any_task(const py::dict& given) {
    if (py::isinstance<py::array_t<double>>(given["node_costs"])) return make_task<double>(given);
    return make_task<float>(given);
}

py::object read_answer(const AnyTask& any) {
    return std::visit(
        [](const auto& task) -> py::object {
            const std::vector<std::int32_t>& roots = task->answer.roots;
            Array<std::int32_t> root(py::ssize_t(roots.size()));
            std::copy(roots.begin(), roots.end(), root.mutable_data());
            return py::make_tuple(task->labels, task->components, root, task->answer.objective,
                                  task->cuts);
        },
        any);
}

// Asks Python whether a signal has come whose handler raises; Ctrl-C's does.
class PythonSignals : public Interrupt {
protected:
    bool requested() override {
        py::gil_scoped_acquire locked;
        return PyErr_CheckSignals() != 0;
    }
};

// One tuple, or the message of what is wrong with the costs, per instance.
py::list solve_batch(const py::list& instances, const py::dict& given_options,
                     std::size_t num_threads) {
    const Options options = read_options(given_options);
    std::vector<AnyTask> tasks;
    for (const py::handle& handle : instances)
        tasks.push_back(make_any_task(py::reinterpret_borrow<py::dict>(handle)));
    std::vector<std::exception_ptr> errors;
    PythonSignals signals;
    {
        py::gil_scoped_release unlocked;
        errors = run_on_threads(tasks.size(), num_threads, signals, [&](std::size_t job) {
            std::visit([&](auto& task) { solve(task->instance, options, task->answer); },
                       tasks[job]);
        });
    }
    if (signals.stopped()) throw py::error_already_set();
    py::list out;
    for (std::size_t job = 0; job < tasks.size(); ++job) {
        try {
            if (errors[job]) std::rethrow_exception(errors[job]);
            out.append(read_answer(tasks[job]));
        } catch (const std::invalid_argument& error) {
            out.append(py::str(error.what()));
        }
    }
    return out;
}

}  // namespace
}  // namespace amwc
}  // namespace mmpanoptic

PYBIND11_MODULE(_solver, module) {
    module.doc() = "Compiled part of mmpanoptic.ops.amwc; use it through that package.";
    module.attr("SOURCES") = MMPANOPTIC_AMWC_SOURCES;
    module.def("solve_batch", &mmpanoptic::amwc::solve_batch, py::arg("instances"),
               py::arg("options"), py::arg("num_threads"));
}
