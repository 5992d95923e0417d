"""The network that recognises digits: 1,437 images to train on, each moved by at most a pixel, 360 held back."""

import torch
from torch import nn
from torch.nn import functional

from layers.networks.digits import DigitClassifier
from layers.training.digit_images import digits, shift
from layers.training.fit import Figures, Run, fit

NETWORKS = ("digits",)


def train() -> nn.Module:
    network = DigitClassifier()
    images, labels = digits(held_back=False)

    def loss() -> torch.Tensor:
        chosen = torch.randint(labels.shape[0], (64,))
        return functional.cross_entropy(network(shift(images[chosen])), labels[chosen], label_smoothing=0.05)

    fit(network, loss, 800, 4e-3)
    return network


def measure(run: Run) -> Figures:
    images, labels = digits(held_back=True)
    found = torch.cat([run(part)[0].argmax(1) for part in images.split(120)])
    return Figures({"accuracy, %": 100 * float((found == labels).double().mean())}, found)
