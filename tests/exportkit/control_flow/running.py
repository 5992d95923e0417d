"""Runs lifted programs in-process: as generated source, as a .pt2, in onnxruntime."""

import torch
from torch import nn
from torch.utils import _pytree as pytree

from exportkit.control_flow import arithmetic, guardless
from exportkit.control_flow.scalars import as_tensor, is_number
from exportkit.formats.onnx import _one_version, warm


class Numbered(nn.Module):
    """Gives the numbers of a result as tensors, as artifacts do."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *inputs):
        return pytree.tree_map(lambda one: as_tensor(one) if is_number(one) else one, self.inner(*inputs))


def exported(module, inputs, shapes):
    """Exports a module; shapes: for each input the axes that vary."""
    if isinstance(module, Numbered):
        shapes = (shapes,)  # forward takes them as one tuple
    with guardless(), torch.no_grad():
        return arithmetic.plain(torch.export.export(module, inputs, dynamic_shapes=shapes))


class Session:
    """A program converted to ONNX and loaded; inputs go in by place."""

    def __init__(self, program):
        import onnxruntime

        warm()
        with guardless(), _one_version():
            made = torch.onnx.export(program, dynamo=True, verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self.names = [one.name for one in made.model.graph.inputs]
        self.session = onnxruntime.InferenceSession(made.model_proto.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def __call__(self, *inputs):
        feed = dict(zip(self.names, (value.numpy() for value in inputs), strict=True))
        return [torch.from_numpy(value.copy()) for value in self.session.run(None, feed)]


def assert_same(got, want, tolerance=1e-5):
    got, want = pytree.tree_leaves(got), pytree.tree_leaves(want)
    assert len(got) == len(want)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(
            torch.as_tensor(one),
            torch.as_tensor(other),
            check_dtype=isinstance(other, torch.Tensor),
            rtol=tolerance,
            atol=tolerance,
            equal_nan=True,
        )
