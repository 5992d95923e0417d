"""A second device of torch's, made of the host's memory: its tensors mix with those of the CPU as little as a GPU's do."""

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

FAR = "far"


class _Far(torch.Tensor):
    """Holds its values in the host's memory, and says that it is elsewhere."""

    @staticmethod
    def __new__(cls, values):
        return torch.Tensor._make_subclass(cls, values.detach(), require_grad=False, dispatch_device=True)

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _Makes(TorchDispatchMode):
    """Lets operators without operands make tensors there: `torch.zeros(3, device=x.device)`."""

    def __enter__(self):
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        return super().__enter__()

    def __exit__(self, *exception):
        torch.__future__.set_overwrite_module_params_on_conversion(False)
        super().__exit__(*exception)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _run(func, args, kwargs):
    if func is torch.ops.prim.device.default:
        return torch.device(FAR, 0) if isinstance(args[0], _Far) else func(*args)
    tensors = [one for one in pytree.tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
    far = [one for one in tensors if isinstance(one, _Far)]
    to = kwargs.get("device")
    copies = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default, torch.ops.aten.index.Tensor)  # CUDA moves indices
    if far and not copies and any(one.dim() for one in tensors if not isinstance(one, _Far)):
        raise RuntimeError("Expected all tensors to be on the same device, but found at least two devices, far:0 and cpu!")
    result = func(*pytree.tree_map(_near, args), **{**pytree.tree_map(_near, kwargs), **({"device": "cpu"} if to else {})})
    stays = torch.device(to).type == FAR if to else bool(far)
    if func._schema.is_mutable and isinstance(result, torch.Tensor):
        return args[0]
    return pytree.tree_map(lambda one: _Far(one) if stays and type(one) is torch.Tensor else one, result)


def _near(one):
    if not isinstance(one, _Far):
        return one
    with torch._C._DisableTorchDispatch():
        return one.as_subclass(torch.Tensor)


def far_device():
    """Returns a mode under which `module.to(FAR)` and `tensor.to(FAR)` work; for good, this process knows the device."""
    if torch._C._get_privateuse1_backend_name() != FAR:
        _setup_privateuseone_for_python_backend(FAR)
    return _Makes()
