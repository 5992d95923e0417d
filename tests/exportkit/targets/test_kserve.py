"""The resources for KServe: held against the schema that KServe's own SDK carries, field by field."""

import json
import subprocess
import sys

import pytest
import small_folder
import yaml

from exportkit import bundle, deployment
from exportkit.errors import LoadError

STORAGE = "pvc://models/net"

# In a process of its own, and the SDK's models alone: the rest of it takes seconds to import, and reads sys.argv.
SCHEMA = """
import importlib.util, json, re, sys, types
package = types.ModuleType("kserve")
package.__path__ = list(importlib.util.find_spec("kserve").submodule_search_locations)
sys.modules["kserve"] = package
import kserve.models, kubernetes.client

def find(name):
    return getattr(kserve.models, name, None) or getattr(kubernetes.client, name)

def check(value, kind, where):
    if kind == "object" or value is None:
        return
    if inner := re.fullmatch(r"[lL]ist\\[(.*)\\]", kind):
        assert isinstance(value, list), where
        for place, one in enumerate(value):
            check(one, inner[1], f"{where}[{place}]")
    elif inner := re.fullmatch(r"[dD]ict[\\[(]str, (.*)[\\])]", kind):
        for key, one in value.items():
            assert isinstance(key, str), where
            check(one, inner[1], f"{where}.{key}")
    elif kind in ("str", "int", "bool", "ResourceQuantity"):
        assert type(value) is {"int": int, "bool": bool}.get(kind, str), f"{where} is {value!r}, not {kind}"
    else:
        model = find(kind)
        names = {model.attribute_map[one]: one for one in model.openapi_types}
        assert not value.keys() - names.keys(), f"{where} has {sorted(value.keys() - names.keys())}"
        for key, one in value.items():
            check(one, model.openapi_types[names[key]], f"{where}.{key}")
        if kind != "V1ObjectMeta":
            model(**{names[key]: one for key, one in value.items()})  # its setters refuse what is required and missing

faults = []
for name, resource in json.load(sys.stdin):
    try:
        version = resource["apiVersion"].rpartition("/")[2]
        check(resource, version[0].upper() + version[1:] + resource["kind"], name)
        faults.append("")
    except (AssertionError, ValueError, AttributeError, KeyError) as error:
        faults.append(f"{type(error).__name__}: {error}")
print(json.dumps(faults))
"""


def faults(resources):
    text = json.dumps(resources)
    done = subprocess.run([sys.executable, "-c", SCHEMA], input=text, capture_output=True, text=True, timeout=200, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def deploy(tmp_path, name="net", **settings):
    plugin = deployment.configure(
        "kserve", [f"{key.replace('_', '-')}={value}" for key, value in ({"storage": STORAGE} | settings).items()]
    )
    found = bundle.read(small_folder.write(tmp_path / "a", name), None)
    told = plugin.deploy(found, tmp_path / "k8s")
    folder = tmp_path / "k8s" / name
    read = [yaml.safe_load((folder / f"{one}.yaml").read_text()) for one in ("servingruntime", "inferenceservice")]
    return folder, told, found, *read


def without(resource, *path):
    changed = json.loads(json.dumps(resource))
    part = changed
    for key in path[:-1]:
        part = part[key]
    del part[path[-1]]
    return changed


def changed(resource, value, *path):
    changed = json.loads(json.dumps(resource))
    part = changed
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return changed


@pytest.mark.serve
def test_the_resources_are_of_the_schema_of_the_sdk_and_the_schema_refuses(tmp_path):
    _, _, _, runtime, service = deploy(tmp_path)
    model = ("spec", "predictor", "model")
    wrong = [
        changed(service, 1, "spec", "predictor", "minReplica"),
        changed(service, "1", "spec", "predictor", "minReplicas"),
        changed(service, "onnx", *model, "modelFormat"),
        changed(service, {"cpu": 1}, *model, "resources", "requests"),
        changed(service, "v2", *model, "protocol"),
        without(service, *model, "modelFormat"),
        without(service, "spec", "predictor"),
        changed(runtime, "8080", "spec", "containers", 0, "ports", 0, "containerPort"),
        without(runtime, "spec", "containers", 0, "name"),
        changed(runtime, "v2", "spec", "protocolVersions"),
        changed(runtime, "ClusterRuntime", "kind"),
    ]
    found = faults([("runtime", runtime), ("service", service), *(("wrong", one) for one in wrong)])
    assert found[:2] == ["", ""]
    assert all(found[2:]), found


def test_the_service_names_the_runtime_the_format_the_protocol_and_the_storage(tmp_path):
    folder, told, found, runtime, service = deploy(tmp_path, "Source_tagger", min_replicas=0, max_replicas=5, cpu="500m", memory="1Gi")
    assert (service["metadata"]["name"], runtime["metadata"]["name"]) == ("source-tagger", "source-tagger-triton")
    predictor = service["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (0, 5)
    model = predictor["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"] in [{key: one[key] for key in ("name", "version")} for one in runtime["spec"]["supportedModelFormats"]]
    assert model["modelFormat"]["name"] == "onnx"
    assert model["protocolVersion"] == "v2"
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    assert model["storageUri"] == STORAGE
    assert model["resources"] == {kind: {"cpu": "500m", "memory": "1Gi"} for kind in ("requests", "limits")}
    assert service["metadata"]["annotations"]["exportkit/manifest-sha256"] == found.digest
    assert (folder / "model_repository" / "Source_tagger" / "config.pbtxt").is_file()
    assert "kubectl apply" in told[-1]


def test_deploying_again_swaps_the_folder_in_whole(tmp_path):
    folder, *_ = deploy(tmp_path)
    again, *_ = deploy(tmp_path, cpu="4")
    assert [one.name for one in folder.parent.iterdir()] == ["net"]
    assert [one.name for one in (again / "model_repository" / "net").iterdir() if one.name.isdigit()] == ["1"]
    assert "cpu: '4'" in (again / "inferenceservice.yaml").read_text()


@pytest.mark.parametrize(
    "settings",
    [{"storage": ""}, {"storage": "models"}, {"cpu": "many"}, {"memory": "2 GB"}, {"min_replicas": 4}, {"target": 0}, {"max_replicas": 0}],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, settings):
    with pytest.raises(LoadError):
        deploy(tmp_path, **settings)
    assert not (tmp_path / "k8s").exists()
