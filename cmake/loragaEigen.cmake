# Finds Eigen 3.4 or 5. A version range would refuse 3.4.0, whose version file accepts exact majors only; so ask for the
# newer one quietly, then for the older.
if(NOT TARGET Eigen3::Eigen)
  find_package(Eigen3 5 NO_MODULE QUIET)
  if(NOT TARGET Eigen3::Eigen)
    find_package(Eigen3 3.4 NO_MODULE QUIET)
  endif()
  if(NOT TARGET Eigen3::Eigen)
    message(FATAL_ERROR "loraga: Eigen 3.4 or newer was not found (Debian: apt-get install libeigen3-dev)")
  endif()
endif()
