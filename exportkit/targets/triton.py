"""NVIDIA's Triton Inference Server: a version of a model in a model repository."""

from dataclasses import dataclass
from pathlib import Path

from exportkit import repository
from exportkit.bundle import Bundle
from exportkit.errors import LoadError

_TF32 = "onnxruntime multiplies in TF32 on CUDA unless NVIDIA_TF32_OVERRIDE=0: `exportkit check --url` judges what it computes"


@dataclass(frozen=True, slots=True)
class Triton:
    """Writes TO/NAME/config.pbtxt once, and TO/NAME/VERSION/model.onnx.

    Attributes:
        instances: how many requests the model computes at once.
        kind: "cpu" or "gpu".
        max_batch: rows that one run may take where rows are independent; 0 for those of the largest golden case.
    """

    instances: int = 1
    kind: str = "cpu"
    max_batch: int = 0

    def deploy(self, bundle: Bundle, to: Path) -> tuple[str, ...]:
        if self.kind not in ("cpu", "gpu") or self.instances < 1 or self.max_batch < 0:
            raise LoadError("kind is cpu or gpu, instances 1 or more, max-batch 0 or more", where="--set")
        told = repository.add(bundle, to, self.instances, self.kind, self.max_batch)
        return (*told, _TF32) if self.kind == "gpu" else told


PLUGIN = Triton()
