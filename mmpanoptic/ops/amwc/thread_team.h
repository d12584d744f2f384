// Runs jobs on threads that live for one call. Nothing outlives the call, so a process may fork
// before and after it.
#pragma once

#include <atomic>
#include <cstddef>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

namespace mmpanoptic {
namespace amwc {

// Calls run(0) ... run(count - 1) and returns what each threw.
template <class Run>
std::vector<std::exception_ptr> run_on_threads(std::size_t count, std::size_t num_threads,
                                               Run run) {
    std::vector<std::exception_ptr> errors(count);
    std::atomic<std::size_t> next{0};
    const auto work = [&] {
        for (std::size_t job = next++; job < count; job = next++) {
            try {
                run(job);
            } catch (...) {
                errors[job] = std::current_exception();
            }
        }
    };
    std::vector<std::thread> team;
    try {
        while (team.size() + 1 < num_threads && team.size() + 1 < count) team.emplace_back(work);
    } catch (const std::system_error&) {
        // The system grants no more threads; those at hand do the work.
    }
    work();
    for (std::thread& thread : team) thread.join();
    return errors;
}

}  // namespace amwc
}  // namespace mmpanoptic
