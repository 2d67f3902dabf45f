"""run_package.py PACKAGE_PY: executes the package file with a stand-in for spack.package that keeps Spack's directives and
refuses what Spack would: unknown directives, variants that nobody declared, a version of a file system's repository that is
not there. Then prints cmake_args for `spack install loraga +tools`. For where Spack cannot be had."""
import os
import re
import sys
import types

SPEC = re.compile(r"[a-z0-9-]*(@[\w.:]+)?([+~%][\w@.:-]+)*$")
declared = {"variants": {}, "versions": {}, "depends": [], "conflicts": []}


def check_spec(spec):
    assert SPEC.fullmatch(spec), f"not a spec: {spec}"


def variant(name, default=None, description="", values=None, when=None):
    assert re.fullmatch(r"[a-z][a-z0-9_-]*", name) and description, name
    assert default is not None and name not in declared["variants"], name
    declared["variants"][name] = default


def version(ver, sha256=None, branch=None, commit=None, url=None, **more):
    assert not more, f"version {ver}: {more}"
    assert (sha256 and re.fullmatch(r"[0-9a-f]{64}", sha256)) or branch or commit, f"version {ver} says not what it is"
    declared["versions"][ver] = sha256 or branch or commit


def depends_on(spec, when=None, type=("build", "link")):
    check_spec(spec)
    kinds = {type} if isinstance(type, str) else set(type)
    assert kinds <= {"build", "link", "run", "test"}, kinds
    declared["depends"].append((spec, when))


def conflicts(spec, when=None, msg=None):
    check_spec(spec)
    declared["conflicts"].append((spec, when))


class CMakePackage:
    spec = {"tools"}

    def define(self, name, value):
        kind = "BOOL" if isinstance(value, bool) else "STRING"
        return f"-D{name}:{kind}={('ON' if value else 'OFF') if isinstance(value, bool) else value}"

    def define_from_variant(self, name, variant):
        assert variant in declared["variants"], f"no variant '{variant}'"
        return self.define(name, variant in self.spec)


stand_in = types.ModuleType("spack.package")
stand_in.__dict__.update(variant=variant, version=version, depends_on=depends_on, conflicts=conflicts,
                         license=lambda name, **_: None, CMakePackage=CMakePackage)
sys.modules.update({"spack": types.ModuleType("spack"), "spack.package": stand_in})

path = os.path.abspath(sys.argv[1])
names = {"__file__": path, "__name__": "spack.pkg.loraga.loraga"}
exec(compile(open(path).read(), path, "exec"), names)
package = names["Loraga"]
assert issubclass(package, CMakePackage) and package.__doc__
for _, when in declared["depends"] + declared["conflicts"]:
    for name in re.findall(r"[+~]([\w-]+)", when or ""):
        assert name in declared["variants"], f"when='{when}': no variant '{name}'"
assert declared["versions"]
if git := getattr(package, "git", ""):  # a release has an archive instead
    assert os.path.exists(os.path.join(git.removeprefix("file://"), "include/loraga/version.hpp")), git
print(" ".join(package().cmake_args()))
