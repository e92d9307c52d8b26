// Threads that run the same function side by side and meet at barriers, thousands of times a second.
#pragma once

#include <immintrin.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace snn {

// A barrier where each member counts its own arrivals and watches the others' counts: one transfer of a cache line
// between two cores. It spins, and after a while yields: a thread that waits for one that the system has put aside must
// not keep it from coming back.
class Barrier {
  public:
    explicit Barrier(int size) : arrivals_(size) {}

    void wait(int member) {
        std::atomic<unsigned>& own = arrivals_[member].count;
        const unsigned turn = own.load(std::memory_order_relaxed) + 1;
        own.store(turn, std::memory_order_release);
        for (Arrivals& other : arrivals_) {
            // A member that is one turn further has passed this one.
            for (int spins = 0; static_cast<int>(other.count.load(std::memory_order_acquire) - turn) < 0; ++spins) {
                if (spins < KEEN) continue;
                if (spins < PATIENT) {
                    _mm_pause();
                } else {
                    std::this_thread::yield();
                }
            }
        }
    }

  private:
    static constexpr int KEEN = 200, PATIENT = 2000;
    struct alignas(128) Arrivals {  // two lines: the prefetcher fetches pairs
        std::atomic<unsigned> count{0};
    };
    std::vector<Arrivals> arrivals_;
};

// The caller is member 0; the others sleep between two runs.
class Team {
  public:
    explicit Team(int size) : barrier(size), size_(size) {
        try {
            for (int member = 1; member < size; ++member) threads_.emplace_back([this, member] { serve(member); });
        } catch (...) {  // the system has no more threads
            close();
            throw;
        }
    }
    ~Team() { close(); }
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    int size() const { return size_; }

    // Run work(member) on all members; returns when all are done. The work must not throw.
    void run(const std::function<void(int)>& work) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            work_ = &work;
            ++runs_;
        }
        wake_.notify_all();
        work(0);
        barrier.wait(0);
    }

    Barrier barrier;

  private:
    void close() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            closing_ = true;
        }
        wake_.notify_all();
        for (std::thread& thread : threads_) thread.join();
    }

    void serve(int member) {
        for (unsigned seen = 0;;) {
            const std::function<void(int)>* work;
            {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [&] { return closing_ || runs_ != seen; });
                if (closing_) return;
                seen = runs_;
                work = work_;
            }
            (*work)(member);
            barrier.wait(member);
        }
    }

    const int size_;
    std::vector<std::thread> threads_;
    std::mutex mutex_;
    std::condition_variable wake_;
    const std::function<void(int)>* work_ = nullptr;
    unsigned runs_ = 0;
    bool closing_ = false;
};

struct Range {
    int begin, end;
};

// Member's share of `count` things, equal to within one.
inline Range share(int count, int member, int members) {
    return {static_cast<int>(int64_t{count} * member / members),
            static_cast<int>(int64_t{count} * (member + 1) / members)};
}

}  // namespace snn
