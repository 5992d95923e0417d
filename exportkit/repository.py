"""A Triton model repository: a model's versions are added, never changed; the folder of a version is an artifact folder.

Triton serves a version once its numbered folder is there: that folder comes last, in one step.
Source: https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_repository.html
"""

import shutil
from pathlib import Path

from exportkit import store, tritonconfig
from exportkit.bundle import Bundle
from exportkit.errors import StoreError
from exportkit.files import write_whole

CONFIG = "config.pbtxt"


def add(bundle: Bundle, repository: Path, instances: int, kind: str, max_batch: int) -> tuple[str, ...]:
    """Adds a version of a model; a config.pbtxt that is there stays as it is, and must fit the new version.

    Returns:
        What the user should know, the version's folder first.

    Raises:
        StoreError: the model's folder is somebody else's, its configuration does not fit, or it cannot be written.
    """
    model = repository / bundle.name
    with store.in_words(model):
        repository.mkdir(parents=True, exist_ok=True)
        with store.locked(repository):  # nobody else takes the same number
            number = _next_version(model)
            with store.stage(model, str(number)) as staging:
                graph = tritonconfig.read_graph(bundle.folder / bundle.artifact.files[0])
                notes = _configure(bundle, model, graph, number, instances, kind, max_batch)
                try:
                    bundle.publish(staging)
                except BaseException:
                    if number == 1:
                        _clear(model)
                    raise
    return (str(model / str(number)), *notes)


def _next_version(model: Path) -> int:
    if not model.is_dir() or model.is_symlink():
        if model.exists() or model.is_symlink():
            raise StoreError("is no folder", where=str(model), todo="Give another name with --name.")
        return 1
    numbers = [int(one.name) for one in model.iterdir() if one.name.isascii() and one.name.isdigit()]
    foreign = [one for one in model.iterdir() if one.name not in (CONFIG, tritonconfig.WARMUP) and not one.name.startswith(".")]
    if not numbers and foreign:
        raise StoreError(f"holds {foreign[0].name} and no version", where=str(model), todo="Give another name with --name.")
    return max(numbers, default=0) + 1


def _configure(
    bundle: Bundle, model: Path, graph: tritonconfig.Graph, number: int, instances: int, kind: str, max_batch: int
) -> tuple[str, ...]:
    """Writes the configuration of a first version; compares what stands there with the graph."""
    file = model / CONFIG
    first = number == 1
    if not first and not file.is_file():
        raise StoreError("is missing, although versions are there", where=str(file), todo="Restore it, or give another name with --name.")
    text, warm_up = tritonconfig.build(bundle, instances, kind, max_batch) if first else (file.read_text(errors="replace"), {})
    config = tritonconfig.parse(text, file)
    if found := list(tritonconfig.compare(config, graph, rows=bundle.artifact.rows)):
        todo = "" if first else "Deploy it under another name with --name: all versions of a model share one configuration."
        raise StoreError(f"does not fit {bundle.folder / bundle.artifact.files[0]}: {'; '.join(found)}", where=str(file), todo=todo)
    if first:
        _clear(model)
        (model / tritonconfig.WARMUP).mkdir()
        for name, data in warm_up.items():
            (model / tritonconfig.WARMUP / name).write_bytes(data)
        write_whole(file, text)
    return tuple(_notes(bundle, config, first=first))


def _notes(bundle: Bundle, config: object, *, first: bool) -> list[str]:
    rows: int = getattr(config, "max_batch_size", 0)
    if rows:
        batching = f"requests are batched along {bundle.artifact.rows}, at most {rows} rows"
        if rows < (most := tritonconfig.most_rows(bundle)):
            batching += f": Triton refuses golden cases of more, up to {most}, and `exportkit check --url` fails"
    elif bundle.artifact.rows and not tritonconfig.batches(bundle):
        batching = f"requests are not batched: Triton would want another shape of a tensor that has {bundle.artifact.rows} as its only axis"
    else:
        batching = "requests are not batched" + ("" if bundle.artifact.rows else ": rows are not proven independent")
    return [batching] if first else [f"{CONFIG} stays as it is; it fits", batching]


def _clear(model: Path) -> None:
    """Removes what a first version wrote before it, or one that was killed."""
    shutil.rmtree(model / tritonconfig.WARMUP, ignore_errors=True)
    for file in (model / CONFIG, *model.glob(f".{CONFIG}.*")):
        file.unlink(missing_ok=True)
