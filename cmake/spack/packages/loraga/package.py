# SPDX-License-Identifier: Apache-2.0
import os

from spack.package import *

try:  # Spack 1.0 and later keep it here; before, spack.package has it
    from spack_repo.builtin.build_systems.cmake import CMakePackage
except ImportError:
    pass


class Loraga(CMakePackage):
    """Low-rank adapters (LoRA-GA and its rivals) for training loops in C++20, header-only."""

    # The repository that this file lies in.
    git = "file://" + os.path.abspath(os.path.join(os.path.dirname(__file__), *[".."] * 4))

    license("Apache-2.0")

    version("main", branch="main")

    variant("cpu", default=True, description="Bring Eigen, for loraga::cpu")
    variant("io", default=True, description="Bring nlohmann-json, for loraga::io: files")
    variant("compiled", default=False, description="Install loraga::cpu_compiled, the CPU's kernels as a library")
    variant("tools", default=False, description="Install loraga_init, loraga_adapter and loraga_plan")
    variant("cuda", default=False, description="Bring CUDA, for loraga::cuda")
    variant("mpi", default=False, description="Bring MPI, for loraga::mpi")
    variant("nccl", default=False, description="Bring NCCL, for loraga::nccl")

    conflicts("~cuda", when="+nccl")
    conflicts("~io", when="+tools")
    conflicts("%gcc@:11")
    conflicts("%clang@:13")

    depends_on("cxx", type="build")
    depends_on("cmake@3.25:", type="build")
    depends_on("eigen@3.4:", when="+cpu")
    depends_on("eigen@3.4:", when="+compiled")
    depends_on("eigen@3.4:", when="+tools")
    depends_on("nlohmann-json@3.11:", when="+io")
    depends_on("cli11", when="+tools", type="build")
    depends_on("cuda@12.8:", when="+cuda")
    depends_on("mpi@3:", when="+mpi")
    depends_on("nccl@2.13:", when="+nccl")

    def cmake_args(self):
        return [
            self.define("LORAGA_BUILD_TESTS", False),
            self.define_from_variant("LORAGA_COMPILED", "compiled"),
            self.define_from_variant("LORAGA_BUILD_TOOLS", "tools"),
        ]
