#include <sys/mman.h>

#include <loraga/adapter/lora.hpp>
#include <loraga/backend/cpu.hpp>
#include <loraga/gradient/incremental.hpp>
#include <loraga/io/checkpoint.hpp>
#include <loraga/optim/adamw.hpp>

namespace {

struct everything {
  loraga::cpu be{1};
  loraga::lora<loraga::bf16, loraga::cpu> adapter{be, 3, 2, 1, loraga::classic_scaling{}, {.dropout = 0.5}};
  loraga::adamw<loraga::bf16, loraga::cpu> optimiser{be};
  loraga::incremental_gradient<loraga::cpu> gradient{be, 3, 2, {.rank = 1}};
  loraga::index_t step = 7;
  std::string note = "n";
  std::vector<float> losses{1, 2};

  everything() { loraga::add_adapter(be, optimiser, adapter, {}); }
  auto items() {
    return [this](auto& c) {
      c("adapter", adapter), c("optimiser", optimiser), c("gradient", gradient);
      c("step", step), c("note", note), c("losses", losses);
    };
  }
};

}  // namespace

// Any file: a checkpoint, or an error that changes nothing. What was loaded can be saved.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  static int const file = ::memfd_create("checkpoint", 0);
  static std::string const path = "/proc/self/fd/" + std::to_string(file), copy = std::tmpnam(nullptr);
  if (::ftruncate(file, 0) != 0 || ::pwrite(file, data, size, 0) != static_cast<ssize_t>(size)) __builtin_trap();
  static everything state;
  state.step = 7;
  try {
    loraga::load_checkpoint(state.be, path, state.items(), {.settings_may_change = true});
  } catch (loraga::error const&) {
    if (state.step != 7) __builtin_trap();
    return 0;
  }
  static int saves = 0;
  if (++saves % 64 == 0) {  // writing is slow
    loraga::save_checkpoint(state.be, copy, state.items());
    std::filesystem::remove(copy);
  }
  return 0;
}
