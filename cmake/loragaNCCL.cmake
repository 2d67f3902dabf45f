# Finds NCCL, which brings no CMake target, for loraga::nccl: beside the CUDA toolkit, on the system, or in NCCL_ROOT. Where
# there is none, loraga_nccl_missing says what to do.
unset(loraga_nccl_missing)
if(NOT TARGET loraga::nccl_library)
  set(loraga_nccl_places ${NCCL_ROOT} $ENV{NCCL_ROOT} ${CUDAToolkit_LIBRARY_ROOT} ${CUDAToolkit_BIN_DIR}/..)
  find_path(loraga_nccl_include nccl.h HINTS ${loraga_nccl_places} ${CUDAToolkit_INCLUDE_DIRS} PATH_SUFFIXES include)
  find_library(loraga_nccl_file nccl HINTS ${loraga_nccl_places} ${CUDAToolkit_LIBRARY_DIR} PATH_SUFFIXES lib lib64)
  mark_as_advanced(loraga_nccl_include loraga_nccl_file)
  if(loraga_nccl_include AND loraga_nccl_file)
    add_library(loraga::nccl_library UNKNOWN IMPORTED)
    set_target_properties(loraga::nccl_library PROPERTIES IMPORTED_LOCATION "${loraga_nccl_file}"
      INTERFACE_INCLUDE_DIRECTORIES "${loraga_nccl_include}")
  else()
    set(loraga_nccl_missing "NCCL was not found (Debian: apt-get install libnccl-dev; elsewhere set NCCL_ROOT to the folder that holds include/nccl.h and lib)")
  endif()
endif()
