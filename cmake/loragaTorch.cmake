# Finds LibTorch for loraga::torch: the target `torch` of the project's own find_package(Torch), or the libraries for CPUs in
# TORCH_ROOT (an unpacked LibTorch, or site-packages/torch of Python's package) or on the system. Python's package is taken
# without its GPU half, so that it needs no CUDA. Where there is none, loraga_torch_missing says what to do.
unset(loraga_torch_missing)
if(NOT TARGET loraga::torch_library)
  if(TARGET torch)
    add_library(loraga::torch_library INTERFACE IMPORTED GLOBAL)
    target_link_libraries(loraga::torch_library INTERFACE ${TORCH_LIBRARIES})
    target_include_directories(loraga::torch_library SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
  else()
    set(loraga_torch_places ${TORCH_ROOT} $ENV{TORCH_ROOT})
    find_path(loraga_torch_include torch/csrc/autograd/custom_function.h HINTS ${loraga_torch_places} PATH_SUFFIXES include)
    find_library(loraga_torch_file torch_cpu HINTS ${loraga_torch_places} PATH_SUFFIXES lib)
    find_library(loraga_torch_core c10 HINTS ${loraga_torch_places} PATH_SUFFIXES lib)
    mark_as_advanced(loraga_torch_include loraga_torch_file loraga_torch_core)
    if(loraga_torch_include AND loraga_torch_file AND loraga_torch_core)
      add_library(loraga::torch_core UNKNOWN IMPORTED GLOBAL)
      set_target_properties(loraga::torch_core PROPERTIES IMPORTED_LOCATION "${loraga_torch_core}")
      add_library(loraga::torch_library UNKNOWN IMPORTED GLOBAL)
      set_target_properties(loraga::torch_library PROPERTIES IMPORTED_LOCATION "${loraga_torch_file}"
        INTERFACE_INCLUDE_DIRECTORIES "${loraga_torch_include};${loraga_torch_include}/torch/csrc/api/include"
        INTERFACE_LINK_LIBRARIES loraga::torch_core)
    else()
      set(loraga_torch_missing "LibTorch was not found (call find_package(Torch) first, or set TORCH_ROOT to the folder that holds its include and lib, such as site-packages/torch; Debian: apt-get install libtorch-dev)")
    endif()
  endif()
endif()
