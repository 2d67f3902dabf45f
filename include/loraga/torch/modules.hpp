#pragma once
// Roof: what LibTorch's users include beside <loraga/cpu.hpp> (or, in a .cu, <loraga/torch/cuda.cuh>). Files of PEFT
// are <loraga/torch/files.hpp>, which brings nlohmann-json.
#include <loraga/torch/conv2d.hpp>
#include <loraga/torch/embedding.hpp>
#include <loraga/torch/initialise.hpp>
#include <loraga/torch/linear.hpp>
