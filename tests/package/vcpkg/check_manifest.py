"""check_manifest.py VCPKG_JSON VERSION: the rules of vcpkg's manifest schema that this port can break."""
import json
import re
import sys

NAME = re.compile(r"^[a-z0-9]+(-[a-z0-9]+)*$")
text = open(sys.argv[1]).read()
manifest = json.loads(text, object_pairs_hook=dict)
assert manifest["version-semver"] == sys.argv[2], f"{manifest['version-semver']} is not {sys.argv[2]}"
known = {"name", "version-semver", "port-version", "description", "homepage", "license", "dependencies",
         "default-features", "features", "supports"}
assert not set(manifest) - known, f"unknown: {set(manifest) - known}"
assert NAME.match(manifest["name"]) and manifest["description"] and manifest["license"] == "Apache-2.0"


def check_dependencies(dependencies):
    for d in dependencies:
        d = {"name": d} if isinstance(d, str) else d
        assert NAME.match(d["name"]), d
        assert not set(d) - {"name", "host", "default-features", "features", "version>=", "platform"}, d


check_dependencies(manifest["dependencies"])
for name, feature in manifest["features"].items():
    assert NAME.match(name) and feature["description"], name
    assert not set(feature) - {"description", "dependencies", "supports"}, name
    check_dependencies(feature.get("dependencies", []))
assert set(manifest["default-features"]) <= set(manifest["features"])
assert json.dumps(manifest, indent=2) + "\n" == text, "not laid out as `vcpkg format-manifest` does"
