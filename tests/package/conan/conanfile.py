import os
import re

from conan import ConanFile
from conan.tools.files import copy, load

# Debian's headers as Conan packages: what ConanCenter's eigen and nlohmann_json are to a machine with a network. Named by
# --name; the version is read from the headers.
FOLDERS = {"eigen": "/usr/include/eigen3", "nlohmann_json": "/usr/include"}
TARGETS = {"eigen": ("Eigen3", "Eigen3::Eigen"), "nlohmann_json": ("nlohmann_json", "nlohmann_json::nlohmann_json")}
VERSIONS = {"eigen": ("Eigen/src/Core/util/Macros.h", r"EIGEN_(?:WORLD|MAJOR|MINOR)_VERSION (\d+)"),
            "nlohmann_json": ("nlohmann/detail/abi_macros.hpp", r"NLOHMANN_JSON_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)")}


class SystemHeaders(ConanFile):
    package_type = "header-library"

    def set_version(self):
        header, pattern = VERSIONS[self.name]
        self.version = ".".join(re.findall(r"#define " + pattern, load(self, os.path.join(FOLDERS[self.name], header)))[:3])

    def package(self):
        for pattern in {"eigen": ("Eigen/*", "unsupported/*"), "nlohmann_json": ("nlohmann/*",)}[self.name]:
            copy(self, pattern, src=FOLDERS[self.name], dst=os.path.join(self.package_folder, "include"))

    def package_info(self):
        self.cpp_info.bindirs = self.cpp_info.libdirs = []
        file, target = TARGETS[self.name]
        self.cpp_info.set_property("cmake_file_name", file)
        self.cpp_info.set_property("cmake_target_name", target)
