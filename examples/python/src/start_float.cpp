#include "start_layer.hpp"

namespace python {

template started_layer<float> start_layer<float>(cpu&, tools::init_options const&, layer_request const&);

}  // namespace python
