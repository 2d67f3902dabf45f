// loraga_plan: what many ranks will need, before a run. See --help.
#include "command_line.hpp"
#include "plan_job.hpp"

int main(int argc, char** argv) {
  return tools::run_main("loraga_plan", [&] { tools::run_plan(tools::parse_plan_options(argc, argv), std::cout); });
}
