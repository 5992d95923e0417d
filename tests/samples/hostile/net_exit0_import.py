# sys.exit(0) at import: a naive tool exits 0 with no artifacts
import torch
from torch import nn
import torch.nn.functional as F

torch.manual_seed(0)
import sys

sys.exit(0)
