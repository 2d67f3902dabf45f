# Installs a .pc file for each component that pkg-config can describe. CUDA, MPI and NCCL have no names there that all
# systems share: loraga-headers with nvcc's or mpicxx's own flags serves them.
set(pc_folder ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
  set(pc_prefix "${CMAKE_INSTALL_PREFIX}")
else()  # found from the file's own place, so that an installation may be moved
  file(RELATIVE_PATH pc_up "/${pc_folder}" "/")
  string(REGEX REPLACE "/$" "" pc_up "${pc_up}")
  set(pc_prefix "\${pcfiledir}/${pc_up}")
endif()
foreach(place include lib)
  string(TOUPPER ${place} place_upper)
  if(IS_ABSOLUTE "${CMAKE_INSTALL_${place_upper}DIR}")
    set(pc_${place}dir "${CMAKE_INSTALL_${place_upper}DIR}")
  else()
    set(pc_${place}dir "\${prefix}/${CMAKE_INSTALL_${place_upper}DIR}")
  endif()
endforeach()

# loraga_pkgconfig(NAME DESCRIPTION [REQUIRES text] [CFLAGS text] [LIBS text])
function(loraga_pkgconfig pc_name pc_description)
  cmake_parse_arguments(PARSE_ARGV 2 pc "" "REQUIRES;CFLAGS;LIBS" "")
  foreach(key requires cflags libs)
    string(TOUPPER ${key} key_upper)
    set(pc_${key} "${pc_${key_upper}}")
    if(pc_${key} AND NOT key STREQUAL requires)
      string(PREPEND pc_${key} " ")
    endif()
  endforeach()
  configure_file(${PROJECT_SOURCE_DIR}/cmake/loraga.pc.in ${PROJECT_BINARY_DIR}/${pc_name}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${pc_name}.pc DESTINATION ${pc_folder})
endfunction()

loraga_pkgconfig(loraga-headers "Low-rank adapters (LoRA-GA) for training loops in C++20: headers alone")
loraga_pkgconfig(loraga "Low-rank adapters (LoRA-GA) for training loops in C++20, on the CPU"
  REQUIRES "loraga-headers, eigen3 >= 3.4" CFLAGS "-pthread" LIBS "-pthread")
loraga_pkgconfig(loraga-io "Adapter and model files (safetensors, PEFT, GGUF, checkpoints) for loraga"
  REQUIRES "loraga-headers, nlohmann_json >= 3.11")
if(LORAGA_COMPILED)
  loraga_pkgconfig(loraga-cpu_compiled "loraga on the CPU, with its kernels compiled once"
    REQUIRES "loraga-headers" CFLAGS "-DLORAGA_CPU_COMPILED -pthread" LIBS "-L\${libdir} -lloraga_cpu_compiled -pthread")
endif()
