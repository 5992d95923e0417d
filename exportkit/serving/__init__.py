"""Serves artifacts by the Open Inference Protocol (KServe V2), over REST and gRPC, from onnxruntime. Needs no torch."""
