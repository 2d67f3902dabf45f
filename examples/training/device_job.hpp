#pragma once
#include <memory>
#include <stdexcept>

#include "measurements.hpp"

namespace training {

/// A backend with up to so many threads of its own, where it has any.
template <class B>
using backend_maker = std::function<std::unique_ptr<B>(int threads)>;

/// Runs and measurements on a device, the task being task_of(name of a set). Each has a backend and a model of its own;
/// the weights they start from and the data are shared. Borrows both arguments.
template <class B, class F>
laboratory laboratory_on(backend_maker<B> const& make, F const& task_of) {
  return {[&](train_spec const& s, checkpointing const& keep, int threads, listener const& tell) {
            auto const be = make(threads);
            return trainer(*be, task_of(s.set), s).run(keep, tell);
          },
          [&](gradient_spec const& s, int threads) { return measure_gradient(*make(threads), task_of(s.set), s); },
          [&](train_spec const& s, int threads) { return measure_first_update(*make(threads), task_of(s.set), s); }};
}

}  // namespace training
