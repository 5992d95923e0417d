"""Runs of a model: bound to a device, of any element type, and how it tells what went wrong."""

import numpy as np
import onnxruntime
import pytest
import serving_models

from exportkit.backends import onnxruntime as runtime
from exportkit.errors import StoreError
from exportkit.serving import models
from exportkit.serving.answers import RequestError
from exportkit.spec import Runtime

INPUTS = {"a": np.arange(8, dtype=np.float32).reshape(2, 4), "b": np.int64([1, 2])}


def test_read_only_and_unordered_arrays_are_taken_by_plain_and_by_bound_runs(tmp_path):
    model = serving_models.load(serving_models.several(tmp_path))

    def bound(inputs, outputs):
        values = {name: runtime.to_value(array, model.types[name]) for name, array in inputs.items()}
        return map(runtime.to_array, runtime.run_bound(model.session, values, outputs, "cpu"))

    frozen = {name: np.frombuffer(value.tobytes(), value.dtype).reshape(value.shape) for name, value in INPUTS.items()}
    turned = {**INPUTS, "a": np.asfortranarray(INPUTS["a"])}
    for inputs in (INPUTS, frozen, turned):
        for run in (model.run, bound):
            following, twice = run(inputs, ("next", "sum"))
            np.testing.assert_array_equal(following, [2, 3])
            np.testing.assert_array_equal(twice, INPUTS["a"] * 2)


def test_values_that_the_network_does_not_take_are_the_clients_fault_and_name_no_file(tmp_path):
    model = serving_models.load(serving_models.lookup(tmp_path))
    with pytest.raises(RequestError, match="does not run on these inputs") as told:
        model.run({"x": np.int64([9])}, ("y",))
    assert told.value.status == 400
    assert str(tmp_path) not in told.value.reason


def test_a_run_that_was_ended_says_that_it_took_too_long(tmp_path):
    model = serving_models.load(serving_models.double(tmp_path))
    options = onnxruntime.RunOptions()
    options.terminate = True
    with pytest.raises(RequestError, match="took longer") as told:
        model.run({"x": np.zeros((1, 4), np.float32)}, ("y",), options)
    assert told.value.status == 504


def test_only_networks_whose_time_no_value_decides_may_run_beside_the_sockets(tmp_path):
    assert serving_models.load(serving_models.double(tmp_path)).steady
    assert not serving_models.load(serving_models.counting(tmp_path)).steady


def test_a_folder_without_onnx_is_not_served(tmp_path):
    with pytest.raises(StoreError, match="has no .onnx, and only that is served"):
        models.load(tmp_path, {"formats": {"pt2": {}}}, Runtime())
