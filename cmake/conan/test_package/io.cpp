#include <loraga/io/peft.hpp>

// What is saved is what is loaded.
int main() {
  loraga::adapter_record saved{"model.layers.0.q_proj", 2, {1, 3}, {4, 1}, {}, {}};
  saved.a.values = {1, 2, 3};
  loraga::save_peft("adapter", {saved}, {.may_replace = loraga::overwrite::yes}, loraga::unchecked_names{});
  auto const loaded = loraga::load_peft("adapter").records;
  return loaded.size() == 1 && loaded[0].scale == 2 && loaded[0].a.values == saved.a.values ? 0 : 1;
}
