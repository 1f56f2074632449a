// Tasks over PyTorch's own threads, handed out one by one. Never a second pool.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <cstdint>

namespace pliant {

// Calls run(first, last_worker_index...) style work: every worker (at most one a thread, at most one a task) calls
// body(worker, next), where next() gives the index of the next task, or -1 when none is left. Which worker takes which
// task is open, so results must not depend on it; scratch memory is best allocated once a worker, in body.
template <class Body>
void parallel_tasks(int64_t tasks, const Body& body) {
  if (tasks <= 0) return;
  std::atomic<int64_t> counter{0};
  const auto next = [&]() -> int64_t {
    const int64_t task = counter.fetch_add(1, std::memory_order_relaxed);
    return task < tasks ? task : -1;
  };
  const int64_t threads = torch::stable::get_num_threads();
  const int64_t workers = threads < tasks ? threads : tasks;
  torch::stable::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) body(worker, next);
  });
}

}  // namespace pliant
