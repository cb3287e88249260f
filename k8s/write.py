"""Writes the kustomize manifests from the chart's objects on standard input, without what is helm's own.

    helm template biasgym charts/biasgym --namespace biasgym \\
      --values charts/biasgym/ci/development-values.yaml | python k8s/write.py

What depends on the object store goes to overlays/development, the rest to base; one file a folder of the chart's templates.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
OVERLAY = ("store", "kfp")
HELM = ("helm.sh/chart", "helm.sh/resource-policy", "app.kubernetes.io/managed-by")
NAMESPACE = "biasgym"


class Dumper(yaml.SafeDumper):
    """YAML as people write it: texts of several lines as blocks, lists indented."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


Dumper.add_representer(str, _text)


def without_helm(item: dict[str, Any]) -> dict[str, Any]:
    """The object without helm's labels and annotations."""
    for field in ("labels", "annotations"):
        notes = item["metadata"].get(field, {})
        for key in HELM:
            notes.pop(key, None)
        if not notes:
            item["metadata"].pop(field, None)
    return item


def manifests(rendered: str) -> dict[Path, list[dict[str, Any]]]:
    """Which file gets which objects, in helm's order."""
    files = defaultdict(list)
    for document in re.split(r"^---\n", rendered, flags=re.MULTILINE):
        source = re.match(r"# Source: biasgym/templates/(\w+)/", document)
        if source:
            folder = Path("overlays/development" if source[1] in OVERLAY else "base")
            files[folder / f"{source[1]}.yaml"].append(without_helm(yaml.safe_load(document)))
    return dict(files)


def write(path: Path, documents: list[dict[str, Any]]) -> None:
    """Writes objects into one file."""
    text = yaml.dump_all(documents, Dumper=Dumper, sort_keys=False, width=1000)
    path.write_text("# written by k8s/write.py\n" + text, encoding="utf-8")


def main() -> None:
    files = manifests(sys.stdin.read())
    for folder in ("base", "overlays/development"):
        names = sorted(path.name for path in files if path.parent == Path(folder))
        kustomization: dict[str, Any] = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
        if folder != "base":
            kustomization |= {"namespace": NAMESPACE}
            names = ["../../base", "namespace.yaml", *names]
        write(HERE / folder / "kustomization.yaml", [kustomization | {"resources": names}])
    for path, documents in files.items():
        write(HERE / path, documents)


if __name__ == "__main__":
    main()
