// A file written, refused, replaced and read, and an adapter saved and loaded, on any system.
#include <cstdio>
#include <loraga/cpu.hpp>
#include <loraga/io/peft.hpp>

using namespace loraga;

static int failures = 0;
static void check(bool holds, char const* what) {
  if (!holds) std::printf("failed: %s\n", what), ++failures;
}

static std::string text_of(std::filesystem::path const& path) {
  mapped_file const file(path);
  return {reinterpret_cast<char const*>(file.bytes().data()), file.bytes().size()};
}

template <class F>
static int code_of(F f) {
  try {
    f();
  } catch (file_error const& e) {
    return e.code;
  }
  return 0;
}

int main() {
  std::filesystem::path const folder = "files", path = folder / u8"g\u00e4nse";
  std::filesystem::remove_all(folder);
  make_folder(folder);
  {
    output_file file(path);
    file.write(3, "def");
    file.write(0, "a\nc");
    check(!std::filesystem::exists(path), "nothing appears before commit");
    file.commit();
  }
  check(text_of(path) == "a\ncdef", "bytes come back as they were written");
  check(code_of([&] { output_file file(path); }) == EEXIST, "what exists is not replaced unasked");
  {
    output_file late(folder / "late");
    output_file(folder / "late").commit();
    check(code_of([&] { late.commit(); }) == EEXIST, "what came meanwhile is not replaced");
  }
  check(text_of(folder / "late").empty(), "an empty file is empty");
  {
    output_file file(path, overwrite::yes);
    file.write(0, "new");
    file.commit();
  }
  check(text_of(path) == "new", "what may be replaced is");
  { output_file abandoned(folder / "abandoned"); }
  auto const entries =
      std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator());
  check(entries == 2, "no temporary file is left");
  check(code_of([&] { mapped_file file(folder / "missing"); }) == ENOENT, "a missing file is missing");
  check(code_of([&] { mapped_file file(folder); }) == EISDIR, "a folder is no file");
  {
    mapped_file const file(path);
    file.forget(file.bytes());
    check(file.bytes()[0] == std::byte{'n'}, "what is forgotten is read again");
  }

  cpu be(2);
  lora<float, cpu> adapter(be, 24, 16, 4, rank_stable_scaling{.alpha = 16});
  initialise(be, adapter, kaiming_init{});
  auto const saved = take_record(be, adapter, "model.layers.0.q_proj");
  save_peft(folder / "adapter", {saved}, {}, unchecked_names{});
  auto const loaded = load_peft(folder / "adapter").records.at(0);
  check(loaded.a.values == saved.a.values && loaded.scale == saved.scale, "an adapter comes back");
  std::printf("%d failures\n", failures);
  return failures != 0;
}
