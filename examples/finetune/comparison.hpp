#pragma once
#include "options.hpp"

namespace finetune {

/// Chooses each method's rate by its final loss on validation images of one held-out seed; writes o.rates.
void sweep(laboratory const& lab, options const& o);

/// The panels; writes summary.json and curves.csv.
void compare(laboratory const& lab, options const& o);

}  // namespace finetune
