# Finds MPI 3, of any maker, for loraga::mpi. Where there is none, loraga_mpi_missing says what to do.
unset(loraga_mpi_missing)
if(NOT TARGET MPI::MPI_CXX)
  find_package(MPI 3 QUIET COMPONENTS CXX)
  if(NOT TARGET MPI::MPI_CXX)
    set(loraga_mpi_missing "MPI 3 for C++ was not found (Debian: apt-get install libopenmpi-dev)")
  endif()
endif()
