"""Makes and writes the weights of one reference network: what `python -m layers.training` runs in processes of its own."""

import importlib
import time
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
