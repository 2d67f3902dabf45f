#pragma once
// Roof for a .cpp: every policy, on the CPU. (The exact SVD by Eigen is loraga/svd/eigen.hpp: half a minute of compile
// time.)
#include <loraga/backend/cpu.hpp>
#include <loraga/backend/eigen_view.hpp>
#include <loraga/backend/instances.hpp>
#include <loraga/loraga.hpp>
