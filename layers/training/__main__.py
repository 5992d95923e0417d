"""Makes the weights of the reference networks again, of all or of those named, two at a time: `python -m layers.training [digits ...]`."""

import argparse
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from layers.training.weights import TRAININGS, make  # a process that is spawned has no package's __main__


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m layers.training", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(TRAININGS)}; usually all")
    names = parser.parse_args().names or TRAININGS
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        list(pool.map(make, names))


if __name__ == "__main__":
    main()
