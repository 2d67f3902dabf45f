#pragma once
#include <loraga/core/view.hpp>

namespace model {

/// Views of some images, a column each, and of their labels.
template <class Space>
struct image_batch {
  loraga::matrix_view<float const, Space> images;            // pixels x count
  loraga::matrix_view<loraga::index_t const, Space> labels;  // 1 x count
};

}  // namespace model
