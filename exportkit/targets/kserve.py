"""KServe on Kubernetes: a model repository for its Triton runtime, and the two resources that serve it.

Source: https://kserve.github.io/website, InferenceService v1beta1 and ServingRuntime v1alpha1.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exportkit import manifest, repository
from exportkit.bundle import Bundle
from exportkit.errors import LoadError
from exportkit.plugins import needs

_REPOSITORY = "model_repository"
_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|[kMGT]i?)?")
_LONGEST = 40  # characters: Kubernetes adds its own to 63


@dataclass(frozen=True, slots=True)
class KServe:
    """Writes TO/NAME with model_repository/ (to upload), servingruntime.yaml and inferenceservice.yaml (to apply).

    Attributes:
        storage: where model_repository/ will lie: pvc://..., s3://..., gs://..., hf://... or https://....
        image: Triton's; its onnxruntime must load the artifact's opset.
        min_replicas: replicas that stay.
        max_replicas: replicas that load may bring.
        target: per cent of the requested CPU at which replicas are added.
        cpu: cores of one replica.
        memory: of one replica.
    """

    storage: str = ""
    image: str = "nvcr.io/nvidia/tritonserver:25.08-py3"
    min_replicas: int = 1
    max_replicas: int = 3
    target: int = 80
    cpu: str = "1"
    memory: str = "2Gi"

    def deploy(self, bundle: Bundle, to: Path) -> tuple[str, ...]:
        self._refuse()
        with needs("target kserve"):
            import yaml
        name = _slug(bundle.name)
        with bundle.stage(to, "kserve") as staging:
            _, *notes = repository.add(bundle, staging.folder / _REPOSITORY, 1, "cpu", 0)
            for file, resource in (("servingruntime.yaml", self._runtime(name)), ("inferenceservice.yaml", self._service(name, bundle))):
                (staging.folder / file).write_text(yaml.safe_dump(resource, sort_keys=False))
            staging.publish(bundle.content("kserve", f"{_REPOSITORY}/{bundle.name}/1/"), {"host": manifest.host()})
        folder = to / bundle.name
        upload = f"upload {folder / _REPOSITORY} to {self.storage}, then: kubectl apply -f {folder / 'servingruntime.yaml'}"
        return (str(folder), *notes, f"{upload} -f {folder / 'inferenceservice.yaml'}")

    def _refuse(self) -> None:
        if not re.fullmatch(r"[a-z0-9]+://\S+", self.storage):
            todo = "Say where model_repository/ will lie: --set storage=pvc://CLAIM/PATH, or s3://, gs://, https://."
            raise LoadError("kserve needs an address of the storage", where=f"--set storage={self.storage}", todo=todo)
        for name in ("cpu", "memory"):
            if not _QUANTITY.fullmatch(getattr(self, name)):
                raise LoadError(f"{name} is no quantity of Kubernetes, such as 500m or 2Gi", where=f"--set {name}={getattr(self, name)}")
        if not (0 <= self.min_replicas <= self.max_replicas and self.max_replicas >= 1 and 0 < self.target <= 100):  # noqa: PLR2004 - per cent
            raise LoadError("min-replicas is at most max-replicas, and target a percentage", where="--set")

    def _resources(self) -> dict[str, Any]:
        one = {"cpu": self.cpu, "memory": self.memory}
        return {"requests": dict(one), "limits": dict(one)}

    def _runtime(self, name: str) -> dict[str, Any]:
        ready = {"httpGet": {"path": "/v2/health/ready", "port": 8080}, "periodSeconds": 5, "failureThreshold": 3}
        live = {"httpGet": {"path": "/v2/health/live", "port": 8080}, "periodSeconds": 10, "failureThreshold": 6}
        container = {
            "name": "kserve-container",
            "image": self.image,
            "args": [
                "tritonserver",
                "--model-repository=/mnt/models",
                "--http-port=8080",
                "--grpc-port=9000",
                "--disable-auto-complete-config",
                "--strict-readiness=true",
            ],
            "ports": [{"containerPort": 8080, "name": "http1", "protocol": "TCP"}],
            "resources": self._resources(),
            "readinessProbe": ready,
            "livenessProbe": live,
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "capabilities": {"drop": ["ALL"]},
            },
        }
        return {
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": "ServingRuntime",
            "metadata": {"name": f"{name}-triton"},
            "spec": {
                "supportedModelFormats": [{"name": "onnx", "version": "1", "autoSelect": False}],
                "protocolVersions": ["v2", "grpc-v2"],
                "multiModel": False,
                "containers": [container],
            },
        }

    def _service(self, name: str, bundle: Bundle) -> dict[str, Any]:
        return {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {
                "name": name,
                "annotations": {
                    "serving.kserve.io/deploymentMode": "RawDeployment",  # scales on CPU, and needs no Knative
                    "exportkit/manifest-sha256": bundle.digest,
                },
            },
            "spec": {
                "predictor": {
                    "minReplicas": self.min_replicas,
                    "maxReplicas": self.max_replicas,
                    "scaleMetric": "cpu",
                    "scaleTarget": self.target,
                    "model": {
                        "modelFormat": {"name": "onnx", "version": "1"},
                        "protocolVersion": "v2",
                        "runtime": f"{name}-triton",
                        "storageUri": self.storage,
                        "resources": self._resources(),
                    },
                },
            },
        }


def _slug(name: str) -> str:
    """Makes a name that Kubernetes takes: source_tagger -> source-tagger."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return (plain if plain[:1].isalpha() else f"net-{plain}")[:_LONGEST].strip("-")


PLUGIN = KServe()
