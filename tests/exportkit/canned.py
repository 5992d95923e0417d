"""Summaries as `exportkit.summary` makes them, so that a reporter is tested without an export."""

import copy


def verdict(backend, outcome="passed", **changes):
    told = {
        "backend": backend,
        "device": "cpu",
        "facts": {},
        "against": "",
        "outcome": outcome,
        "cases": {"inside": 9, "outside": 5, "dropped": 2, "sizes": 4},
        "differences": {"logits": difference(1.3), "score": difference(0.4)},
        "errors": {"logits": points(1.3), "score": points(0.4)},
        "undetermined": [],
        "findings": [],
        "failures": [],
    }
    return told | changes


def points(worst, limit=5.0, metric="largest error / eager's"):
    values = {"example": worst / 2, "like-0": worst, "one": worst / 3}
    return [{"case": case, "metric": metric, "value": value, "limit": limit, "passed": value <= limit} for case, value in values.items()]


def difference(times, rms=None):
    return {
        "max_abs": 3.1e-7,
        "max_rel": 2.2e-6,
        "times_eager_rms": rms or times / 2,
        "times_eager_max": times,
        "limit_rms": 3.0,
        "limit_max": 5.0,
    }


def made(name, file, backend, outcome="passed", **changes):
    told = {
        "format": name,
        "strategy": "exported",
        "earlier": [],
        "files": [{"name": file, "size": 5 << 20}],
        "facts": {"opset": 20, "operators": {"Add": 2, "MatMul": 3}} if name == "onnx" else {},
        "verdicts": [verdict(backend, outcome)],
        "findings": [],
        "outcome": outcome,
        "seconds": 2.345,
        "refused": None,
    }
    return told | changes


def summary():
    return copy.deepcopy(
        {
            "network": {
                "name": "tagger",
                "file": "net.py",
                "object": "tagger",
                "parameters": 1234567,
                "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", "time", 64]}],
                "outputs": [
                    {"name": "logits", "dtype": "float32", "shape": ["batch", "time", 9]},
                    {"name": "score", "dtype": "float32", "shape": ["batch"]},
                ],
                "symbols": [
                    {"name": "batch", "places": [["x", 0, 0]], "size": 2, "step": 1, "low": 1, "high": None, "declared": True},
                    {"name": "time", "places": [["x", 1, 0]], "size": 32, "step": 8, "low": 8, "high": 512, "declared": False},
                ],
                "fixed": ["x axis 2 = 64"],
            },
            "folder": "artifacts/tagger",
            "formats": [
                made("torchscript", "tagger.pt", "torchscript"),
                made("pt2", "tagger.pt2", "pt2"),
                made("onnx", "tagger.onnx", "onnxruntime"),
            ],
            "cases": [
                {"name": "example", "kind": "example", "domain": "inside", "sizes": {}},
                {"name": "one", "kind": "like", "domain": "inside", "sizes": {"batch": 1, "time": 8}},
            ],
            "findings": [],
            "outcome": "passed",
            "exit_code": 0,
            "seconds": {"total": 12.34, "making onnx": 4.2, "judging onnx": 1.1},
            "next": [],
            "source": {},
        }
    )


def fail_onnx(summary):
    summary["formats"][2] = made(
        "onnx", "tagger.onnx", "onnxruntime", "failed", files=[], verdicts=[], strategy=None,
        refused="exported: net.py:12: the loop runs over a size",
    )  # fmt: skip
    summary |= {"outcome": "failed", "exit_code": 1, "folder": None, "next": ["exportkit export net.py --format torchscript,pt2"]}
    return summary


def could_not_run():
    fault = {"kind": "LoadError", "what": "no module named transformers", "where": "other.py:1", "todo": "pip install transformers"}
    return {"target": "other.py", "error": fault, "details": "", "outcome": "could not run", "exit_code": 2}


def bare_file():
    return {
        "file": "from_elsewhere.onnx", "format": "onnx", "sha256": "ab" * 32, "size": 1234,
        "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 3]}], "outputs": [], "facts": {"opsets": {"ai.onnx": 20}},
        "done": "loads and runs in onnxruntime", "outcome": "runs", "exit_code": 0, "seconds": {"total": 0.5},
    }  # fmt: skip
