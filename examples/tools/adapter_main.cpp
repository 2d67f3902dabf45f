// loraga_adapter: looks at, merges, combines and converts adapters in PEFT's form. See --help.
#include "adapter_options.hpp"

int main(int argc, char** argv) {
  tools::adapter_command_line line;
  tools::parse_or_exit(line.app, argc, argv);
  return tools::run_main("loraga_adapter", [&] {
    tools::watch_signals();
    line.run();
  });
}
