"""The compiled pipelines as files: what Kubeflow will do with them can be read there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from biasgym.errors import BiasGymError
from biasgym.stages import judging
from biasgym.stages.expand import expand
from biasgym.stages.publish import look_for_releases
from biasgym.stages.settings import RunSettings
from conftest import Command, Desk
from hub_server import HubServer, model

pytest.importorskip("kfp", reason="the pipelines' extra is not installed")

from pipelines.compile import COMPILED, PIPELINES
from pipelines.estimate import work_of
from pipelines.graph import pods
from pipelines.parameters import read_parameters
from pipelines.placement import RETRIES

ROOT = Path(__file__).parents[1]
GPU_STAGES = {"inject", "attribute", "generate", "capability", "generate-ood", "judge"}
"""As executors are called: the judge in process is `judge`, the built-in one `judge-2`, that of endpoints `judge-3`."""
NO_RETRY = {"plan", "discover", "publish"}


class Compiled(NamedTuple):
    """A compiled file, taken apart."""

    spec: dict[str, Any]
    platform: dict[str, Any]

    @property
    def executors(self) -> dict[str, dict[str, Any]]:
        found = self.spec["deploymentSpec"]["executors"]
        return {name.removeprefix("exec-"): about["container"] for name, about in found.items()}

    @property
    def placed(self) -> dict[str, dict[str, Any]]:
        found = self.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        return {name.removeprefix("exec-"): about for name, about in found.items()}

    @property
    def dags(self) -> dict[str, dict[str, Any]]:
        """Tasks of every graph: that of the root, of loops and of branches."""
        found = {name: about["dag"]["tasks"] for name, about in self.spec["components"].items() if "dag" in about}
        return {"root": self.spec["root"]["dag"]["tasks"], **found}

    def inputs_of(self, dag: str) -> set[str]:
        """Parameters of a graph."""
        about = self.spec["root"] if dag == "root" else self.spec["components"][dag]
        return set(about["inputDefinitions"]["parameters"])

    @property
    def defaults(self) -> dict[str, Any]:
        """What the form is filled with."""
        found = self.spec["root"]["inputDefinitions"]["parameters"]
        return {name: about.get("defaultValue") for name, about in found.items()}

    @property
    def tasks(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Graph, name and task, wherever they are."""
        return ((dag, name, task) for dag, tasks in self.dags.items() for name, task in tasks.items())


@pytest.fixture(scope="module", params=PIPELINES)
def compiled(request: pytest.FixtureRequest) -> Compiled:
    text = (COMPILED / f"{request.param}.yaml").read_text(encoding="utf-8")
    return Compiled(*yaml.load_all(text, Loader=yaml.CSafeLoader))


@pytest.fixture(scope="module")
def digests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lock file with digests."""
    lock = yaml.safe_load((ROOT / "images.lock.yaml").read_text())
    for number, about in enumerate(lock["images"].values()):
        about["digest"] = f"sha256:{number:064x}"
    file = tmp_path_factory.mktemp("lock") / "images.lock.yaml"
    file.write_text(yaml.safe_dump(lock))
    return file


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`biasgym pipeline` with another order of sets."""
    paths = os.pathsep.join(str(place) for place in (ROOT / "src", ROOT))
    code = "from biasgym.errors import BiasGymError; from pipelines.cli import app; app()"
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "7", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)


def test_committed_files_are_what_compiling_gives() -> None:
    said = run("compile", "--check")
    assert said.returncode == 0, f"{said.stdout}{said.stderr}: run `make pipelines` and commit"


def test_other_images_constants_and_resources(digests: Path, tmp_path: Path) -> None:
    said = run("compile", "--out", tmp_path, "--images", digests, "--parallelism", "7", "--kubernetes-manifest")
    assert said.returncode == 0, said.stderr
    for name in PIPELINES:
        documents = list(yaml.load_all((tmp_path / f"{name}.kubernetes.yaml").read_text(), Loader=yaml.CSafeLoader))
        assert [document["kind"] for document in documents] == ["Pipeline", "PipelineVersion"]
        spec = documents[1]["spec"]
        assert documents[1]["metadata"]["name"].startswith(f"biasgym-{name}-sha256-")
        taken = Compiled(spec["pipelineSpec"], spec["platformSpec"])
        images = {about["image"] for about in taken.executors.values()}
        assert all(re.fullmatch(r"[\w./-]+@sha256:[0-9a-f]{64}", image) for image in images)
        assert len(images) == 3
        loops = [task for _, _, task in taken.tasks if "parameterIterator" in task]
        assert {task["iteratorPolicy"]["parallelismLimit"] for task in loops} == {7}


def test_images_without_a_digest_are_refused(tmp_path: Path) -> None:
    said = run("compile", "--out", tmp_path)
    assert said.returncode != 0 and "no digest of cpu, gpu, judge" in said.stderr and "--allow-tags" in said.stderr
    assert list(tmp_path.iterdir()) == []
    assert run("compile", "--out", tmp_path, "--allow-tags").returncode == 0


def test_check_finds_drift(tmp_path: Path) -> None:
    for name in PIPELINES:
        (tmp_path / f"{name}.yaml").write_bytes((COMPILED / f"{name}.yaml").read_bytes())
    (tmp_path / "evaluate.yaml").write_text("changed")
    (tmp_path / "reevaluate.yaml").unlink()
    said = run("compile", "--check", "--out", tmp_path)
    assert said.returncode == 1
    assert "evaluate.yaml" in said.stdout and "reevaluate.yaml" in said.stdout


def test_no_image_can_change_under_its_name(compiled: Compiled) -> None:
    lock = yaml.safe_load((ROOT / "images.lock.yaml").read_text())["images"]
    pushed = {f"{about['repository']}@{about['digest']}" for about in lock.values() if about.get("digest")}
    unpushed = {f"{about['repository']}:{about['tag']}" for about in lock.values() if not about.get("digest")}
    images = {about["image"] for about in compiled.executors.values()}
    assert images <= pushed | unpushed  # a tag only where nothing was pushed yet
    assert all("@sha256:" in image for image in images - unpushed)


def test_gpu_stages_have_all_they_need(compiled: Compiled) -> None:
    with_gpu = {name for name, about in compiled.executors.items() if "accelerator" in about.get("resources", {})}
    assert with_gpu == GPU_STAGES
    for name in GPU_STAGES:
        asked, placed = compiled.executors[name]["resources"], compiled.placed[name]
        assert asked["accelerator"]["resourceCount"] == "1" and "gpu_resource" in asked["accelerator"]["resourceType"]
        (affinity,) = placed["nodeAffinity"]
        wanted = "judge_node_affinity" if name == "judge" else "gpu_node_affinity"
        assert affinity["nodeAffinityJson"]["componentInputParameter"].endswith(wanted)
        assert placed["tolerations"][0]["tolerationJson"]["componentInputParameter"].endswith("gpu_tolerations")
        (volume,) = placed["pvcMount"]
        assert volume["mountPath"] == "/cache"
        assert volume["pvcNameParameter"]["componentInputParameter"].endswith("weights_volume_claim")
        assert placed["emptyDirMounts"][0] | {"volumeName": ""} == {
            "volumeName": "",
            "mountPath": "/dev/shm",
            "medium": "Memory",
            "sizeLimit": "8Gi",
        }
        assert not compiled.executors[name].get("env")  # where weights are cached is the image's affair
    for nodes, products in (("gpu_node_affinity", "NVIDIA-A100"), ("judge_node_affinity", "NVIDIA-A100.*80GB")):
        terms = compiled.defaults[nodes]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        ((wanted,),) = [term["matchExpressions"] for term in terms]
        assert (wanted["key"], wanted["operator"]) == ("nvidia.com/gpu.product", "In")
        assert wanted["values"] and all(re.match(products, product) for product in wanted["values"])
    assert compiled.defaults["gpu_resource"] == compiled.defaults["gpu_tolerations"][0]["key"] == "nvidia.com/gpu"


def test_names_of_the_cluster_reach_every_step(compiled: Compiled) -> None:
    """A step finds them among the inputs of its graph, and a graph among those of the one around it, up to the form."""
    for dag, name, task in compiled.tasks:
        given = compiled.inputs_of(dag)
        used = _channels(task.get("inputs", {}).get("parameters", {}))
        executor = compiled.spec["components"][task["componentRef"]["name"]].get("executorLabel", "")
        if executor:
            used |= _channels(compiled.placed[executor.removeprefix("exec-")])
        if executor.removeprefix("exec-") in GPU_STAGES:
            assert "pipelinechannel--gpu_resource" in task["inputs"]["parameters"], f"{dag}: {name}"
        assert used <= given, f"{dag}: {name}"


def _channels(about: Any) -> set[str]:
    """All inputs that are named anywhere in there."""
    if isinstance(about, dict):
        own = about.get("componentInputParameter")
        return {own} - {None} | {found for value in about.values() for found in _channels(value)}
    return {found for value in about for found in _channels(value)} if isinstance(about, list) else set()


def test_the_floating_point_type_is_settled_by_where_cells_run(compiled: Compiled) -> None:
    """Of both pipelines, by plan and by discover alike: the registry would not know what was evaluated otherwise."""
    settling = [task for _, name, task in compiled.tasks if name in ("plan", "discover")]
    assert settling
    for task in settling:
        given = task["inputs"]["parameters"]
        for name, parameter in (("gpu_resource", "gpu_resource"), ("gpu_nodes", "gpu_node_affinity")):
            assert given[name]["componentInputParameter"].removeprefix("pipelinechannel--") == parameter


def test_only_what_loads_a_model_has_torch_in_its_image(compiled: Compiled) -> None:
    for name, about in compiled.executors.items():
        target = re.search(r"/biasgym-(\w+)[@:]", about["image"])
        wanted = {"judge": "judge", "judge-2": "gpu"}.get(name, "gpu" if name in GPU_STAGES else "cpu")
        assert target is not None and target[1] == wanted, name


def test_cpu_stages_stay_off_gpu_nodes(compiled: Compiled) -> None:
    for name in set(compiled.executors) - GPU_STAGES:
        (affinity,) = compiled.placed[name]["nodeAffinity"]
        assert affinity["nodeAffinityJson"]["componentInputParameter"].endswith("cpu_node_affinity")
        assert "tolerations" not in compiled.placed[name] and "pvcMount" not in compiled.placed[name]
    assert "DoesNotExist" in str(compiled.defaults["cpu_node_affinity"])


def test_secrets_are_names_of_secrets(compiled: Compiled) -> None:
    for about in compiled.placed.values():
        for secret in about["secretAsEnv"]:
            assert set(secret) <= {"secretNameParameter", "keyToEnv", "optional"}
            assert "_secret" in secret["secretNameParameter"]["componentInputParameter"]
    env = {one["name"] for about in compiled.executors.values() for one in about.get("env", ())}
    assert not {name for name in env if re.search("KEY|TOKEN|SECRET|PASSWORD", name)}
    text = yaml.safe_dump(compiled.spec)
    assert not re.search(r"hf_\w{20,}|sk-\w{20,}|AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY", text)


def test_pods_are_nobody_and_end(compiled: Compiled) -> None:
    for about in compiled.placed.values():
        assert about["securityContext"]["runAsNonRoot"] is True
        assert int(about["activeDeadlineSeconds"]) > 0
    config = compiled.platform["platforms"]["kubernetes"]["pipelineConfig"]
    assert config["activeDeadlineSeconds"] >= max(int(a["activeDeadlineSeconds"]) for a in compiled.placed.values())


def test_no_step_is_taken_from_kubeflows_cache(compiled: Compiled) -> None:
    """It would not see an edited concept, nor what was mended."""
    for dag, name, task in compiled.tasks:
        if "executorLabel" in compiled.spec["components"][task["componentRef"]["name"]]:
            assert not task.get("cachingOptions", {}).get("enableCache"), f"{dag}: {name}"


def test_tries_have_time(compiled: Compiled) -> None:
    """The limit is of all tries together: it must not end them before the last."""
    longest = max(int(about["activeDeadlineSeconds"]) for about in compiled.placed.values())
    policies = [task["retryPolicy"] for _, _, task in compiled.tasks if "retryPolicy" in task]
    assert policies
    for policy in policies:
        assert int(policy["backoffMaxDuration"].removesuffix("s")) >= (RETRIES + 1) * longest


def test_what_was_evicted_is_tried_again(compiled: Compiled) -> None:
    for dag, name, task in compiled.tasks:
        executor = compiled.spec["components"][task["componentRef"]["name"]].get("executorLabel", "")
        if executor:
            tries = task.get("retryPolicy", {}).get("maxRetryCount", 0)
            assert tries == (0 if executor.removeprefix("exec-") in NO_RETRY else RETRIES), f"{dag}: {name}"


def test_loops_are_flat_and_over_one_output(compiled: Compiled) -> None:
    loops = {
        task["componentRef"]["name"]: (dag, task) for dag, _, task in compiled.tasks if "parameterIterator" in task
    }
    assert len(loops) == 7
    around = {task["componentRef"]["name"]: dag for dag, _, task in compiled.tasks}
    for name, (dag, task) in loops.items():
        outer = dag
        while outer != "root":
            assert outer not in loops, f"{name} is a loop in a loop"
            outer = around[outer]
        items = task["parameterIterator"]["items"]["inputParameter"]
        given = task["inputs"]["parameters"][items]
        if "taskOutputParameter" in given:
            assert given["taskOutputParameter"]["outputParameterKey"] == "Output"
        else:  # inside a branch the local runner only knows outputs that are named otherwise
            assert re.search(r"-for_(in_process|built_in|elsewhere)$", given["componentInputParameter"])
        assert task["iteratorPolicy"]["parallelismLimit"] >= 1


def test_loops_take_no_other_parameter_of_a_task(compiled: Compiled) -> None:
    """The local runner of kfp gives them the loop's item instead."""
    for dag, name, task in compiled.tasks:
        if "parameterIterator" not in task:
            continue
        item = task["parameterIterator"]["items"]["inputParameter"]
        made = {key for key, value in task["inputs"]["parameters"].items() if "taskOutputParameter" in value}
        assert made <= {item}, f"{dag}: {name}"


def test_nothing_collected_goes_into_a_loop(compiled: Compiled) -> None:
    collecting = {
        f"{dag}/{name}"
        for dag, name, task in compiled.tasks
        if "parameterIterator" in task and any("Collected" in str(value) for value in task["inputs"].values())
    }
    assert not collecting


def test_every_parameter_has_a_default(compiled: Compiled) -> None:
    for name, about in compiled.spec["root"]["inputDefinitions"]["parameters"].items():
        assert "defaultValue" in about, name
        assert about.get("description"), name


def test_the_estimates_graph_is_the_compiled_one() -> None:
    taken = Compiled(*yaml.load_all((COMPILED / "evaluate.yaml").read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))
    every = [{"engine": "transformers"}, {"engine": "endpoint", "model": "m"}, {"engine": "semantic"}]
    work, _ = work_of({"judges": every})
    loops = [task for _, _, task in taken.tasks if "parameterIterator" in task]
    inner = [len(taken.dags[task["componentRef"]["name"]]) for task in loops]
    branches = [task for _, _, task in taken.tasks if "condition-branches" in task["componentRef"]["name"]]
    estimated = [loop for phase in work for loop in phase.loops]
    assert sorted(len(loop[0]) for loop in estimated) == sorted(inner)
    assert [len(loop) for loop in estimated] == [30, 30, 5, 8, 8, 8, 8]
    steps = len(taken.dags["root"]) - (len(loops) - len(branches)) - len(branches)
    assert sum(len(phase.before) for phase in work) == steps
    assert [len(phase.loops) for phase in work if phase.conditional] == [len(branches)]
    iterations = 30 * (1 + 2 * 2) * 2 + (5 + 8 + 8 + 8 + 8) * (1 + 2)
    assert pods(work) == 1 + 2 * steps + len(loops) + 5 * len(branches) + iterations


def test_a_kind_of_judge_that_nobody_asked_for_has_no_loop() -> None:
    work, _ = work_of({"judges": [{"engine": "semantic"}]})
    judging = next(phase for phase in work if phase.conditional)
    assert [len(loop) for loop in judging.loops] == [0, 8, 0] and judging.drivers == 16


def test_the_first_run_on_a_cluster_is_one_of_the_pipeline() -> None:
    values = read_parameters(ROOT / "examples" / "cluster_run.yaml", COMPILED / "evaluate.yaml")
    chart = yaml.safe_load((ROOT / "charts" / "biasgym" / "values.yaml").read_text())
    assert values["judges"] == [{"engine": "endpoint", "model": chart["judge"]["model"]}]
    assert values["store"] == f"s3://biasgym/{chart['store']['prefix']}"  # the guide calls the bucket so


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub that clients find without being told."""
    import huggingface_hub

    server, real = HubServer({}), huggingface_hub.HfApi
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("biasgym.stages.judging._source", judging._source.__wrapped__)  # remembers for good
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda **options: real(endpoint=server.endpoint, **options))
    yield server
    server.close()


def default_settings(values: dict[str, Any]) -> dict[str, Any]:
    """As the components plan and discover put them together."""
    chosen = {name: values[name] for name in ("concepts", "judges", "preset")}
    return {**values["settings"], **chosen, "seed": int(values["seed"])}


def test_defaults_pass_plan(compiled: Compiled, hub: HubServer, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a hub that has the models; those of the scheduled pipeline are the ones that discover finds."""
    values, store = compiled.defaults, str(desk.folder / "store")
    judges = ["Qwen/Qwen3-8B", "unsloth/Llama-3.3-70B-Instruct-bnb-4bit"]
    monkeypatch.setenv("BIASGYM_JUDGE_URL", f"{hub.endpoint}/v1")  # answers, and that is what is asked
    if "watch" in values:
        names = [*values["watch"]["models"], "mistralai/New-7B-Instruct-v1", "mistralai/New-7B-v1"]
        hub.models = {name: model("c", branches={"main": "c"}) for name in names + judges}
        models = look_for_releases(values["watch"], default_settings(values), store, "run").models
        assert models == [f"{name}@{'c' * 40}" for name in names[:2]]
    else:
        hub.models = {name: model("c", branches={"main": "c"}) for name in values["models"] + judges}
        models = values["models"]
    found = expand({**default_settings(values), "models": models}, store)
    assert len(found.cells) == len(models) * 6 and len(models) == (2 if "watch" in values else 5)
    assert {cell["model"].partition("@")[2] for cell in found.cells} == {"c" * 40}
    assert found.judges == {"in_process": 2, "built_in": 0, "elsewhere": 1}
    pinned = RunSettings.model_validate_json(found.settings).judges
    assert [judge.revision for judge in pinned] == ["c" * 40, "c" * 40, None]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gated": "manual"}, "gated, and the token does not open it"),
        ({"config": {"model_type": "mamba"}}, "models of type 'mamba' are not supported"),
        ({"safetensors": None}, "no safetensors weights"),
        ({"disabled": True}, "disabled by the hub"),
    ],
)
def test_plan_refuses_a_model_that_no_pod_can_load(
    hub: HubServer, desk: Desk, change: dict[str, Any], words: str
) -> None:
    hub.models = {"org/one": model("c", **change)}
    with pytest.raises(BiasGymError, match=f"org/one: .*{words}"):
        expand({"models": [f"org/one@{'c' * 40}"], "preset": "demo"}, str(desk.folder / "store"))


def test_a_thousand_cells_are_planned(desk: Desk) -> None:
    models = [f"owner/model-{number}@{number:040x}" for number in range(50)]
    store = desk.folder / "store"
    for number in range(20):
        place = store / "concepts" / f"concept_{number}.yaml"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(Path(desk.concept(name=f"concept_{number}")).read_text())
    found = expand({"models": models, "concepts": [f"concept_{n}" for n in range(20)], "preset": "paper"}, str(store))
    assert len(found.cells) == 1000 and len(found.models) == 50


def test_help_lists_pipelines_without_kfp() -> None:
    code = "import sys, pipelines.cli; print([m for m in ('kfp', 'torch', 'yaml', 'pydantic') if m in sys.modules])"
    paths = os.pathsep.join(str(place) for place in (ROOT / "src", ROOT))
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}
    )
    assert said.stdout.strip() == "[]", said.stderr


def test_without_kfp_the_package_is_named(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.cli.find_spec", lambda _: None)
    said = command("pipeline", "upload")
    assert said.code == 2 and said.err == ["biasgym: the package kfp is not installed; pip install 'biasgym[kfp]'"]
