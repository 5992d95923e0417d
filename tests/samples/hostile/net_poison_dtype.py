# sets default dtype to float64 at import and stdout chatter
import torch
from torch import nn
import torch.nn.functional as F

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
print('{"status": "ok"}')
model = nn.Linear(4, 3).eval()
example_inputs = (torch.randn(2, 4),)
