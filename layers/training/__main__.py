"""Makes the weights of the reference networks again, of all or of those named, two at a time: `python -m layers.training [digits ...]`."""

import argparse
import importlib
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from safetensors.torch import save_model

from layers import networks

TRAININGS = ("source_tagger", "language", "digits", "digit_strings", "digit_alignment")
FOLDER = Path(networks.__file__).parent


def make(name: str) -> None:
    """Trains one network and writes its weights."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # how sums are split among threads shows in the last digits
    torch.use_deterministic_algorithms(True)
    begin = time.monotonic()
    network = importlib.import_module(f"layers.training.{name}").train()
    file = FOLDER / f"{name}.safetensors"
    save_model(network, str(file))
    print(f"{file.name}: {file.stat().st_size / 1024:.0f} KiB in {time.monotonic() - begin:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m layers.training", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(TRAININGS)}; usually all")
    names = parser.parse_args().names or TRAININGS
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        list(pool.map(make, names))


if __name__ == "__main__":
    main()
