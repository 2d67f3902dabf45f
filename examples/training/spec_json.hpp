#pragma once
#include <nlohmann/json.hpp>

#include "records.hpp"

namespace training {

using json = nlohmann::ordered_json;

/// Specs as plans' lines have them.
/// errors  runtime_error naming what is missing, unknown or of the wrong type
train_spec parse_train(json const& line);
gradient_spec parse_gradient(json const& line);
json train_json(train_spec const& s);

/// What was measured, as results' lines have it.
json record_json(train_record const& r);
train_record parse_record(json const& line);
json gradient_json(gradient_spec const& s, std::vector<gradient_layer> const& rows);

}  // namespace training
