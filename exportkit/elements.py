"""What the Open Inference Protocol (KServe V2) calls numpy's element types.

Source: https://github.com/kserve/open-inference-protocol, "Tensor Data Types"; BF16 is Triton's.
"""

V2 = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "bfloat16": "BF16",
    "float32": "FP32",
    "float64": "FP64",
}
NUMPY = {name: dtype for dtype, name in V2.items()}
BINARY_ONLY = ("float16", "bfloat16")  # no JSON form is defined for them
