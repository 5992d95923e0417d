"""Imports what every export needs, for a fork server that will fork many: no tensor operation may run here."""

import torch.export._trace
import torch.onnx  # noqa: F401 - imported for its side effect: to be there in every fork

from exportkit.formats import onnx

onnx.warm()
