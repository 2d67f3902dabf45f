import os
import re

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy, get, load, rmdir

required_conan_version = ">=2.0"


class LoragaConan(ConanFile):
    name = "loraga"
    description = "Low-rank adapters (LoRA-GA and its rivals) for training loops in C++20, header-only"
    license = "Apache-2.0"
    topics = ("lora", "fine-tuning", "low-rank", "machine-learning", "header-only")
    package_type = "static-library"  # with compiled=False a header-library: see configure()
    settings = "os", "arch", "compiler", "build_type"
    # cpu: Eigen, for loraga::cpu. io: JSON, for loraga::io. compiled: the CPU's kernels as a library, so that those who
    # link loraga::cpu_compiled need no Eigen and half the compile time.
    options = {"cpu": [True, False], "io": [True, False], "compiled": [True, False]}
    default_options = {"cpu": True, "io": True, "compiled": False}

    @property
    def _tree(self):
        return os.path.join(self.recipe_folder, "..", "..")

    def set_version(self):
        if not self.version:
            text = load(self, os.path.join(self._tree, "include", "loraga", "version.hpp"))
            self.version = ".".join(re.findall(r"LORAGA_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", text))

    @property
    def _archive(self):  # of a release; without one the recipe packs the tree that it lies in
        return (self.conan_data or {}).get("sources", {}).get(str(self.version))

    def export_sources(self):
        if not self._archive:
            for pattern in ("CMakeLists.txt", "LICENSE", "cmake/*", "include/*"):
                copy(self, pattern, src=self._tree, dst=self.export_sources_folder)

    def source(self):
        if self._archive:
            get(self, **self._archive, strip_root=True)

    def configure(self):
        if not self.options.compiled:
            self.package_type = "header-library"

    def layout(self):
        cmake_layout(self)

    def requirements(self):
        if self.options.cpu or self.options.compiled:
            self.requires("eigen/[>=3.4.0 <6]", transitive_headers=bool(self.options.cpu))
        if self.options.io:
            self.requires("nlohmann_json/[>=3.11 <4]", transitive_headers=True)

    def package_id(self):
        if not self.info.options.compiled:
            self.info.settings.clear()

    def validate(self):
        check_min_cppstd(self, 20)

    def generate(self):
        toolchain = CMakeToolchain(self)
        toolchain.cache_variables["LORAGA_BUILD_TESTS"] = False
        toolchain.cache_variables["LORAGA_COMPILED"] = bool(self.options.compiled)
        toolchain.generate()
        CMakeDeps(self).generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        copy(self, "LICENSE", src=self.source_folder, dst=os.path.join(self.package_folder, "licenses"))
        CMake(self).install()
        rmdir(self, os.path.join(self.package_folder, "lib", "cmake"))  # CMakeDeps writes these for consumers
        rmdir(self, os.path.join(self.package_folder, "lib", "pkgconfig"))

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "loraga")
        self.cpp_info.set_property("cmake_target_name", "loraga::all")  # loraga::loraga is the CPU's, as without Conan
        self._component("headers")
        if self.options.cpu:
            cpu = self._component("cpu", requires=["headers", "eigen::eigen"], threads=True)
            cpu.set_property("cmake_target_aliases", ["loraga::loraga"])
        if self.options.io:
            self._component("io", requires=["headers", "nlohmann_json::nlohmann_json"])
        if self.options.compiled:
            compiled = self._component("cpu_compiled", requires=["headers"], threads=True)
            compiled.libs = ["loraga_cpu_compiled"]
            compiled.libdirs = ["lib"]
            compiled.defines = ["LORAGA_CPU_COMPILED"]
            if not self.options.cpu:
                compiled.requires.append("eigen::eigen")  # built with it: Conan wants each requirement named

    def _component(self, name, requires=(), threads=False):
        part = self.cpp_info.components[name]
        part.set_property("cmake_target_name", f"loraga::{name}")
        part.bindirs = part.libdirs = []
        part.requires = list(requires)
        if threads and self.settings.get_safe("os") in ("Linux", "FreeBSD"):
            part.system_libs = ["pthread"]
        return part
