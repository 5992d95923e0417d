# model is already a ScriptModule
import torch
from torch import nn
import torch.nn.functional as F

torch.manual_seed(0)
model = torch.jit.script(nn.Sequential(nn.Linear(4, 3), nn.ReLU())).eval()
example_inputs = (torch.randn(2, 4),)
