"""Scikit-learn's `load_digits`: 1,797 images of handwritten digits, the test set of UCI's Optical Recognition of Handwritten Digits."""

import torch
from sklearn.datasets import load_digits


def digits(held_back: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns images, (N, 8, 8), float32 from 0 to 16, and what they show, (N,), int64: every fifth is held back."""
    data = load_digits()
    images, labels = torch.from_numpy(data.images).float(), torch.from_numpy(data.target)
    chosen = (torch.arange(labels.shape[0]) % 5 == 0) == held_back
    return images[chosen], labels[chosen]


def shift(images: torch.Tensor) -> torch.Tensor:
    """Moves each image, (N, 8, 8), by at most one pixel in both directions, at random."""
    count = images.shape[0]
    wide = torch.nn.functional.pad(images, [1, 1, 1, 1])
    rows = torch.randint(3, (count, 1, 1)) + torch.arange(8).view(1, 8, 1)
    columns = torch.randint(3, (count, 1, 1)) + torch.arange(8).view(1, 1, 8)
    return wide[torch.arange(count).view(-1, 1, 1), rows, columns]
