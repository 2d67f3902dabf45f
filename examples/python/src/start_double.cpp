#include "start_layer.hpp"

namespace python {

template started_layer<double> start_layer<double>(cpu&, tools::init_options const&, layer_request const&);

}  // namespace python
