// Runs jobs on threads that live for one call. Nothing outlives the call, so a process may fork
// before and after it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "interrupt.h"

namespace mmpanoptic {
namespace amwc {

// Calls run(0) ... run(count - 1) and returns what each threw. The calling thread works as well, and
// asks `interrupt` all the while.
template <class Run>
std::vector<std::exception_ptr> run_on_threads(std::size_t count, std::size_t num_threads,
                                               Interrupt& interrupt, Run run) {
    std::vector<std::exception_ptr> errors(count);
    std::atomic<std::size_t> next{0};
    const auto work = [&](bool asks) {
        duty = {&interrupt, asks};
        for (std::size_t job = next++; job < count; job = next++) {
            try {
                check_interrupt();
                run(job);
            } catch (...) {
                errors[job] = std::current_exception();
            }
        }
        duty = {};
    };
    std::mutex mutex;
    std::condition_variable done;
    std::size_t running = 0;
    const auto help = [&] {
        work(false);
        const std::lock_guard<std::mutex> lock(mutex);
        --running;
        done.notify_one();
    };
    std::vector<std::thread> team;
    try {
        while (team.size() + 1 < num_threads && team.size() + 1 < count) {
            {
                const std::lock_guard<std::mutex> lock(mutex);
                ++running;
            }
            team.emplace_back(help);
        }
    } catch (const std::system_error&) {
        // The system grants no more threads; those at hand do the work.
        const std::lock_guard<std::mutex> lock(mutex);
        --running;
    }
    work(true);
    {
        std::unique_lock<std::mutex> lock(mutex);
        while (!done.wait_for(lock, Interrupt::kPause, [&] { return running == 0; })) {
            lock.unlock();
            interrupt.ask();
            lock.lock();
        }
    }
    for (std::thread& thread : team) thread.join();
    return errors;
}

}  // namespace amwc
}  // namespace mmpanoptic
