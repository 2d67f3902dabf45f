# Of a release: where its archive is, and its check sum. Without them the port packs the tree that it lies in.
set(archive_url "")
set(archive_sha512 "")
if(archive_url)
  vcpkg_download_distfile(archive URLS "${archive_url}" FILENAME "loraga-${VERSION}.tar.gz" SHA512 "${archive_sha512}")
  vcpkg_extract_source_archive(SOURCE_PATH ARCHIVE "${archive}")
else()
  get_filename_component(SOURCE_PATH "${CMAKE_CURRENT_LIST_DIR}/../../../.." ABSOLUTE)
endif()

if(NOT "compiled" IN_LIST FEATURES)
  set(VCPKG_BUILD_TYPE release)  # headers alone: nothing to build twice
endif()
vcpkg_check_features(OUT_FEATURE_OPTIONS feature_options FEATURES compiled LORAGA_COMPILED)
vcpkg_cmake_configure(SOURCE_PATH "${SOURCE_PATH}" OPTIONS -DLORAGA_BUILD_TESTS=OFF ${feature_options})
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(CONFIG_PATH lib/cmake/loraga)
if(NOT "compiled" IN_LIST FEATURES)  # lib holds nothing but files for pkg-config, which belong to no architecture
  file(MAKE_DIRECTORY "${CURRENT_PACKAGES_DIR}/share")
  file(RENAME "${CURRENT_PACKAGES_DIR}/lib/pkgconfig" "${CURRENT_PACKAGES_DIR}/share/pkgconfig")
  file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/lib")
endif()
vcpkg_fixup_pkgconfig()
file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/debug/include")

file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
