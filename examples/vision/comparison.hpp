#pragma once
#include "options.hpp"

namespace vision {

/// Chooses each method's rate by its final loss on validation images of one held-out seed; writes o.rates.
void sweep(training::laboratory const& lab, options const& o);

/// The panels; writes summary.json and curves.csv.
void compare(training::laboratory const& lab, options const& o);

}  // namespace vision
