// Lets a call be given up while it runs: Ctrl-C must not wait for the end of a large problem.
#pragma once

#include <atomic>
#include <chrono>

namespace mmpanoptic {
namespace amwc {

// Thrown by check_interrupt() in all threads of a call that is given up.
struct Interrupted {};

// One per call. Its first thread asks the outside world ten times a second, the others look at the
// flag.
class Interrupt {
public:
    virtual ~Interrupt() = default;

    bool stopped() const { return stop_.load(std::memory_order_relaxed); }

    void ask() {
        const auto now = std::chrono::steady_clock::now();
        if (stopped() || now < next_) return;
        next_ = now + kPause;
        if (requested()) stop_.store(true, std::memory_order_relaxed);
    }

    static constexpr std::chrono::milliseconds kPause{100};

protected:
    virtual bool requested() = 0;

private:
    std::atomic<bool> stop_{false};
    std::chrono::steady_clock::time_point next_ = std::chrono::steady_clock::now() + kPause;
};

// What the present thread works for, and whether it is the one that asks.
struct Duty {
    Interrupt* interrupt = nullptr;
    bool asks = false;
};

inline thread_local Duty duty;

inline void check_interrupt() {
    if (!duty.interrupt) return;
    if (duty.asks) duty.interrupt->ask();
    if (duty.interrupt->stopped()) throw Interrupted{};
}

// For inner loops: looks once in a thousand steps.
class StepCounter {
public:
    void operator()() {
        if ((++steps_ & 1023u) == 0) check_interrupt();
    }

private:
    unsigned steps_ = 0;
};

}  // namespace amwc
}  // namespace mmpanoptic
