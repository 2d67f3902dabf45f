#pragma once
// Roof for a .cu: every policy, on a GPU. (A .cpp may include it as well, when Thrust is set to a host system.)
#include <loraga/backend/cuda.cuh>
#include <loraga/loraga.hpp>
#include <loraga/svd/cusolver.cuh>
