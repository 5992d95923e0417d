"""Outputs get the network's names, whatever values inside are called."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import parser

from exportkit.formats import onnx as format_onnx

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
main (float[2] x) => (float[2] last)
<float[1] total = {3.0}>
{
  where = Mul(x, total)
  last = Relu(where)
}
"""


def test_a_value_inside_gives_way_to_an_output_of_its_name():
    for name in ("where", "total", "last"):
        model = ir.from_proto(onnx.shape_inference.infer_shapes(parser.parse_model(MODEL)))
        format_onnx._name_values(model.graph, model.graph.outputs, [name])
        session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
        assert [one.name for one in session.get_outputs()] == [name]
        assert session.run(None, {"x": np.float32([1, -1])})[0].tolist() == [3, 0]
