#include <cstdio>
#include <loraga/io/peft.hpp>

// Interchange alone: no Eigen, no backend.
int main() {
  loraga::adapter_record r{"model.layers.0.q_proj", 2, {1, 3}, {4, 1}, {}, {}};
  r.a.values = {1, 2, 3};
  loraga::save_peft("adapter", {r}, {.may_replace = loraga::overwrite::yes}, loraga::unchecked_names{});
  auto const back = loraga::load_peft("adapter");
  std::printf("scale %g\n", back.records[0].scale);
  return back.records[0].a.values == r.a.values && back.records[0].scale == 2 ? 0 : 1;
}
