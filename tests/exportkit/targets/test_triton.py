"""A Triton repository: its configuration is that of the graph, and versions are added whole or not at all."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import small_folder
from google.protobuf import text_format
from onnx import TensorProto, helper

from exportkit import bundle, golden, store, tritonconfig
from exportkit.errors import LoadError, StoreError
from exportkit.targets.triton import PLUGIN
from exportkit.tritonconfig import Graph, Tensor


@pytest.fixture
def repository(tmp_path):
    return tmp_path / "models"


def config(repository, name="net"):
    file = repository / name / "config.pbtxt"
    return tritonconfig.parse(file.read_text(), file)


def deploy(tmp_path, repository, target=PLUGIN, name=None, **options):
    parent = tmp_path / f"made{len(list(tmp_path.iterdir()))}"
    return target.deploy(bundle.read(small_folder.write(parent, **options), name), repository)


def test_rows_that_are_independent_are_batched(tmp_path, repository):
    deploy(tmp_path, repository, replace(PLUGIN, instances=2, kind="gpu"))
    made = config(repository)
    assert (made.name, made.backend, made.default_model_filename) == ("net", "onnxruntime", "model.onnx")
    assert made.max_batch_size == max(small_folder.SIZES.values())  # every golden case is taken
    assert made.HasField("dynamic_batching")
    assert [(one.name, one.data_type, list(one.dims)) for one in made.input] == [("x", 11, [3]), ("n", 9, [1])]
    assert [(one.name, one.data_type, list(one.dims)) for one in made.output] == [("y", 11, [3]), ("m", 9, [1])]
    assert [(one.count, one.kind) for one in made.instance_group] == [(2, made.instance_group[0].KIND_GPU)]
    assert made.HasField("response_cache")
    assert not made.response_cache.enable


def test_fewer_rows_than_a_golden_case_has_are_told(tmp_path, repository):
    told = deploy(tmp_path, repository, replace(PLUGIN, max_batch=8))
    assert config(repository).max_batch_size == 8
    assert any("up to 11" in one for one in told)


@pytest.mark.parametrize("options", [{"rows": ""}, {"rank": 1}])
def test_others_are_not(tmp_path, repository, options):
    told = deploy(tmp_path, repository, **options)
    made = config(repository)
    assert made.max_batch_size == 0
    assert not made.HasField("dynamic_batching")
    assert [list(one.dims) for one in made.input] == [[-1, 3], [-1] if "rank" in options else [-1, 1]]
    assert any("not batched" in one for one in told)


@pytest.mark.parametrize("rows", ["batch", ""])
def test_it_warms_up_on_golden_cases(tmp_path, repository, rows):
    deploy(tmp_path, repository, rows=rows)
    arrays = golden.Reader(repository / "net" / "1" / "golden.safetensors")
    samples = config(repository).model_warmup
    assert [one.name for one in samples] == (["like-0"] if rows else ["like-0", "sizes-0", "sizes-1"])
    for sample in samples:
        assert sample.batch_size == 1
        for name, one in sample.inputs.items():
            value = arrays.read(f"{sample.name}/input/{name}")
            value = value[0] if rows else value
            assert list(one.dims) == list(value.shape)
            raw = (repository / "net" / "warmup" / one.input_data_file).read_bytes()
            np.testing.assert_array_equal(np.frombuffer(raw, value.dtype).reshape(value.shape), value)


def test_external_data_lies_beside_the_graph_under_its_own_name(tmp_path, repository):
    deploy(tmp_path, repository, external=True, name="other")
    version = repository / "other" / "1"
    assert {one.name for one in version.iterdir()} == {"model.onnx", "net.onnx.data", "golden.safetensors", "manifest.json", "run.json"}
    onnx.load(version / "model.onnx")
    data = store.verify(version)
    assert data["network"]["name"] == config(repository, "other").name == "other"
    assert data["origin"]["network"] == "net"
    assert len(data["origin"]["manifest"]) == 64


GRAPH = Graph(
    (Tensor("x", "TYPE_FP32", ("batch", 3)), Tensor("n", "TYPE_INT64", ("batch", 1))),
    (Tensor("y", "TYPE_FP32", ("batch", 3)), Tensor("m", "TYPE_INT64", ("batch", 1))),
)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.ClearField("dynamic_batching"), ""),
        (lambda c: setattr(c, "max_batch_size", 64), ""),
        (lambda c: setattr(c.instance_group[0], "count", 9), ""),
        (lambda c: c.input.reverse(), "the inputs are ['n', 'x']"),
        (lambda c: c.output.pop(), "the outputs are ['y']"),
        (lambda c: setattr(c.input[0], "data_type", 10), "input x is TYPE_FP16"),
        (lambda c: setattr(c.output[1], "name", "z"), "the outputs are ['y', 'z']"),
        (lambda c: c.output[0].dims.append(1), "output y has dims [3, 1], the graph's are [3]"),
        (lambda c: c.input[0].reshape.shape.append(3), "input x has dims"),
        (lambda c: setattr(c, "max_batch_size", 0), "input x has dims [3], the graph's are [-1, 3]"),
        (lambda c: setattr(c, "backend", "python"), "the backend is 'python'"),
        (lambda c: setattr(c, "default_model_filename", "other.onnx"), "the file is 'other.onnx'"),
        (lambda c: setattr(c.response_cache, "enable", True), "the response cache is on"),
        (lambda c: c.model_warmup[0].inputs.pop("n"), "the warm-up like-0 feeds ['x']"),
    ],
)
def test_a_configuration_is_compared_with_the_graph_field_by_field(tmp_path, repository, change, words):
    deploy(tmp_path, repository)
    assert tritonconfig.read_graph(repository / "net" / "1" / "model.onnx") == GRAPH
    made = config(repository)
    change(made)
    found = list(tritonconfig.compare(made, GRAPH, rows="batch"))
    assert any(words in one for one in found) if words else not found


@pytest.mark.parametrize("rows", ["", "time"])
def test_batching_without_proof_is_a_difference(tmp_path, repository, rows):
    deploy(tmp_path, repository)
    assert "requests are batched, but rows are not proven independent" in list(tritonconfig.compare(config(repository), GRAPH, rows=rows))


def test_a_batched_model_takes_no_version_whose_rows_are_not_proven(tmp_path, repository):
    deploy(tmp_path, repository)
    before = sorted(repository.rglob("*"))
    with pytest.raises(StoreError, match="rows are not proven independent"):
        deploy(tmp_path, repository, rows="")
    assert sorted(repository.rglob("*")) == before


def test_a_version_of_another_signature_is_refused(tmp_path, repository):
    deploy(tmp_path, repository, rows="")
    with pytest.raises(StoreError, match="input n has dims"):
        deploy(tmp_path, repository, rows="", rank=1)


def test_a_configuration_that_was_edited_stays_and_the_largest_number_counts(tmp_path, repository):
    deploy(tmp_path, repository)
    file = repository / "net" / "config.pbtxt"
    made = config(repository)
    made.instance_group[0].count = 7
    file.write_text("# ours\n" + text_format.MessageToString(made))
    before = file.read_text()
    (repository / "net" / "1").rename(repository / "net" / "9")
    assert deploy(tmp_path, repository)[0] == str(repository / "net" / "10")
    assert file.read_text() == before


@pytest.mark.parametrize("text", [None, "garbage {", "name: 1"])
def test_a_configuration_that_is_none_is_refused(tmp_path, repository, text):
    deploy(tmp_path, repository)
    file = repository / "net" / "config.pbtxt"
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(StoreError):
        deploy(tmp_path, repository)
    assert not (repository / "net" / "2").exists()


@pytest.mark.parametrize("make", [lambda model: (model / "1.txt").write_text("x"), lambda model: (model / "old").mkdir()])
def test_a_folder_of_somebody_else_is_left_alone(tmp_path, repository, make):
    (repository / "net").mkdir(parents=True)
    make(repository / "net")
    before = sorted(repository.rglob("*"))
    with pytest.raises(StoreError, match="and no version"):
        deploy(tmp_path, repository)
    assert sorted(repository.rglob("*")) == before


@pytest.mark.parametrize("make", [lambda model: model.write_text("x"), lambda model: model.symlink_to("/")])
def test_a_file_or_link_is_left_alone(tmp_path, repository, make):
    repository.mkdir()
    make(repository / "net")
    with pytest.raises(StoreError, match="is no folder"):
        deploy(tmp_path, repository)


def test_a_first_version_that_cannot_be_published_leaves_nothing(tmp_path, repository, monkeypatch):
    def fail(*_):
        raise StoreError("the disk is full")

    found = bundle.read(small_folder.write(tmp_path / "a"), None)
    monkeypatch.setattr(store.Staging, "publish", fail)
    with pytest.raises(StoreError):
        PLUGIN.deploy(found, repository)
    assert not list(repository.rglob("*"))


def test_what_a_kill_left_is_no_version_and_is_replaced(tmp_path, repository):
    (repository / "net" / "warmup").mkdir(parents=True)
    (repository / "net" / "warmup" / "stale").write_text("x")
    (repository / "net" / "config.pbtxt").write_text("half of a conf")
    (repository / "net" / ".config.pbtxt.abc").write_text("half of a conf")
    (repository / "net" / ".1.abc.staging").mkdir()
    deploy(tmp_path, repository)
    assert sorted(one.name for one in (repository / "net").iterdir()) == ["1", "config.pbtxt", "warmup"]
    assert not (repository / "net" / "warmup" / "stale").exists()


def test_two_at_once_take_two_numbers(tmp_path, repository):
    found = bundle.read(small_folder.write(tmp_path / "a"), None)
    start = threading.Barrier(4)

    def one(_):
        start.wait()
        return PLUGIN.deploy(found, repository)[0]

    with ThreadPoolExecutor(4) as pool:
        paths = sorted(map(Path, pool.map(one, range(4))))
    assert [path.name for path in paths] == ["1", "2", "3", "4"]
    for path in paths:
        store.verify(path)


def test_a_copy_that_is_not_what_was_checked_is_not_published(tmp_path, repository):
    folder = small_folder.write(tmp_path / "a")
    found = bundle.read(folder, None)
    other = small_folder.graph("other", small_folder.INPUTS, small_folder.OUTPUTS)
    (folder / "net.onnx").write_bytes(other.SerializeToString())
    with pytest.raises(StoreError, match="was changed while it was copied"):
        PLUGIN.deploy(found, repository)
    assert not list(repository.rglob("*"))


@pytest.mark.parametrize(("kind", "shape", "words"), [(TensorProto.STRING, [1], "no name"), (TensorProto.FLOAT, [], "rank 0")])
def test_what_triton_has_no_words_for_is_refused(tmp_path, kind, shape, words):
    x, y = (helper.make_tensor_value_info(name, kind, shape) for name in "xy")
    onnx.save(helper.make_model(helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])), tmp_path / "x.onnx")
    with pytest.raises(LoadError, match=words):
        tritonconfig.read_graph(tmp_path / "x.onnx")


@pytest.mark.parametrize("settings", [{"kind": "tpu"}, {"instances": 0}, {"max_batch": -1}])
def test_settings_that_make_no_sense_are_refused(tmp_path, repository, settings):
    with pytest.raises(LoadError):
        deploy(tmp_path, repository, replace(PLUGIN, **settings))
    assert not repository.exists()


def test_the_manifest_of_a_version_tells_how_the_artifact_was_made(tmp_path, repository):
    deploy(tmp_path, repository)
    data = json.loads((repository / "net" / "1" / "manifest.json").read_text())
    assert data["formats"]["onnx"]["artifact"]["strategy"] == "exported"
    assert data["versions"]["exportkit"]
