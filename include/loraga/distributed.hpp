#pragma once
// Many ranks: what they share, over any communicator. Those of MPI and NCCL are in headers of their own, which need
// these: <loraga/distributed/mpi.hpp>, <loraga/distributed/nccl.cuh>.
#include <loraga/distributed/average.hpp>
#include <loraga/distributed/combine.hpp>
#include <loraga/distributed/counted.hpp>
#include <loraga/distributed/loopback.hpp>
#include <loraga/distributed/shared_start.hpp>
#include <loraga/distributed/streamed.hpp>
#include <loraga/distributed/tensor_parallel.hpp>
