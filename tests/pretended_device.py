"""A pretended GPU: computes on the processor, and enforces PyTorch's rules about devices.

Within :func:`pretended_gpu`, ``cuda`` is there, and a tensor that is put on it is a
:class:`OnGpu`. As with a GPU, what mixes it with a tensor elsewhere fails, as does taking its
numbers to NumPy, drawing with a generator of the processor, and loading it where there is no GPU.
:func:`waits` lists what makes the host wait for a GPU.
"""

import traceback
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _foreach_utils
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("cuda", 0)
NAME = "a pretended GPU"
MIXED = "Expected all tensors to be on the same device, but found at least two devices"
#: What may take tensors of several devices.
ANY_DEVICES = {
    *(Tensor.copy_, Tensor.to, Tensor.type_as, Tensor.module_load),
    torch._has_compatible_shallow_copy_type,
}
INDEXING = {Tensor.__getitem__, Tensor.__setitem__}
#: What makes no exception for the numbers (tensors without dimensions) of the processor.
STRICT = {torch.cat, torch.stack, torch.where}
TO_NUMPY = {Tensor.numpy, Tensor.__array__}
#: What needs numbers of the GPU on the host: it waits until they are computed.
WAITING = {
    *(Tensor.item, Tensor.tolist, Tensor.__bool__, Tensor.__float__, Tensor.__int__),
    *(Tensor.__index__, Tensor.is_nonzero, Tensor.__repr__),
    *(Tensor.__format__, Tensor.__contains__, Tensor.nonzero, torch.nonzero, torch.equal),
    *(Tensor.equal, torch.allclose, Tensor.allclose, Tensor.masked_select, torch.masked_select),
    *(Tensor.unique, torch.unique, Tensor.inverse, torch.inverse, torch.linalg.inv),
    *(torch.linalg.cholesky, torch.linalg.eigh, torch.linalg.svd, torch.bincount, Tensor.bincount),
}
_to, _save, _load, _module_to = Tensor.to, torch.save, torch.load, nn.Module.to
_autocast, _grouped = torch.autocast, _foreach_utils._group_tensors_by_device_and_dtype


class OnGpu(Tensor):
    """A tensor on the pretended GPU."""

    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)

    @property
    def grad(self):
        with torch._C.DisableTorchFunction():
            return put(Tensor.grad.__get__(self))

    @grad.setter
    def grad(self, value):
        with torch._C.DisableTorchFunction():
            Tensor.grad.__set__(self, value)

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in TO_NUMPY:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()")
        if func in WAITING or (func in INDEXING and selects(args[0], args[1])):
            wait(func.__name__)
        if func is Tensor.__format__:  # of a subclass, PyTorch formats no number
            return args[0].item().__format__(args[1])
        check(func, args, kwargs)
        return super().__torch_function__(func, types, args, kwargs)

    def __deepcopy__(self, memo):
        return self.clone().detach().requires_grad_(self.requires_grad)


LISTS = []
"""Those that :func:`waits` fills."""


@contextmanager
def waits():
    """A list of what makes the host wait for the GPU in the ``with`` block, and where."""
    found = []
    LISTS.append(found)
    try:
        yield found
    finally:
        LISTS.remove(found)


def wait(what):
    for found in LISTS:
        frames = [f for f in traceback.extract_stack() if "/stochrestore/" in f.filename]
        found.append(f"{what}, {frames[-1].name}:{frames[-1].lineno}" if frames else what)


def selects(indexed, index):
    """Whether the host must see the index, or send it."""
    if not isinstance(indexed, OnGpu):
        return False
    parts = index if isinstance(index, tuple) else (index,)
    return any(
        isinstance(x, list)
        or (isinstance(x, Tensor) and (not isinstance(x, OnGpu) or x.dtype == torch.bool))
        for x in parts
    )


def check(func, args, kwargs):
    """Raise what PyTorch raises where tensors of several devices meet."""
    generator = kwargs.get("generator")
    if generator is not None and generator.device.type != "cuda":
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
    if func in ANY_DEVICES:
        return
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    if func in INDEXING:
        indexed, index, *value = args
        indices = [x for x in tree_leaves(index) if isinstance(x, Tensor)]
        if not isinstance(indexed, OnGpu) and any(isinstance(x, OnGpu) for x in indices):
            raise RuntimeError("indices should be on the same device as the indexed tensor (cpu)")
        tensors = [x for x in tree_leaves((indexed, value)) if isinstance(x, Tensor)]
    here = [x for x in tensors if not isinstance(x, OnGpu) and (x.ndim or func in STRICT)]
    if here and any(isinstance(x, OnGpu) for x in tensors):
        raise RuntimeError(f"{MIXED}, cuda:0 and cpu! (in {func.__name__})")


def put(x):
    """The same tensor on the pretended GPU."""
    return x if isinstance(x, OnGpu) or not isinstance(x, Tensor) else x.as_subclass(OnGpu)


def take(x):
    """The same tensor on the processor."""
    return x.as_subclass(Tensor) if isinstance(x, OnGpu) else x


def is_gpu(device):
    return isinstance(device, str | torch.device) and torch.device(device).type == "cuda"


class Pretend(TorchFunctionMode):
    """Makes tensors on the device that is asked for."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is Tensor.to or func is Tensor.cpu or func is Tensor.cuda:
            return moved(func, args, kwargs)
        if func is Tensor.pin_memory:
            pinned = args[0].clone()
            pinned.is_locked = True
            return pinned
        if is_gpu(kwargs.get("device")):
            if func in (torch.tensor, torch.as_tensor):
                wait(func.__name__)
            generator = kwargs.get("generator")
            if generator is not None and generator.device.type != "cuda":
                raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
            return tree_map(put, func(*args, **{**kwargs, "device": "cpu"}))
        return func(*args, **kwargs)


def moved(func, args, kwargs):
    """``to``, ``cpu`` and ``cuda``, whatever way the device is given."""
    x, *rest = args
    targets = [*rest, kwargs.pop("device", None), kwargs.pop("other", None)]
    devices = [t.device if isinstance(t, Tensor) else t for t in targets]
    devices = [torch.device(d) for d in devices if isinstance(d, str | torch.device)]
    if func is Tensor.cpu or func is Tensor.cuda:
        devices = [torch.device("cpu" if func is Tensor.cpu else "cuda")]
    dtypes = [t.dtype if isinstance(t, Tensor) else t for t in targets]
    dtypes = [t for t in dtypes if isinstance(t, torch.dtype)]
    gpu = devices[-1].type == "cuda" if devices else isinstance(x, OnGpu)
    plain = {k: v for k, v in kwargs.items() if k in ("memory_format", "copy", "dtype")}
    with torch._C.DisableTorchFunction():
        dtype = {"dtype": dtypes[-1]} if dtypes else {}
        found = _to(x, "cpu", **{**plain, **dtype})
        away = gpu != isinstance(x, OnGpu)
        free = gpu and kwargs.get("non_blocking") and getattr(x, "is_locked", False)
        if away and not free:
            wait(func.__name__)
        if away and found is x:  # on another device, it is another tensor
            found = x.clone()
        return found.as_subclass(OnGpu if gpu else Tensor)


def module_to(module, *args, **kwargs):
    """As ``nn.Module.to``, where the parameters become those of the device."""
    swaps = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        return _module_to(module, *args, **kwargs)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(swaps)


def written(x):
    """What a file keeps of a tensor: its numbers, and where they were."""
    return {"__gpu__": take(x.detach())} if isinstance(x, OnGpu) else x


def save(obj, file, **options):
    _save(tree_map(written, obj), file, **options)


def load(file, map_location=None, **options):
    """As ``torch.load``; without ``map_location``, what a GPU wrote needs a GPU."""
    gpu_is_there = torch.cuda.is_available()

    def read(x):
        away = isinstance(x, dict) and "__gpu__" in x
        if away and map_location is None and not gpu_is_there:
            raise RuntimeError("Attempting to deserialize object on a CUDA device")
        tensor = x["__gpu__"] if away else x
        if not isinstance(tensor, Tensor):
            return tensor
        to_gpu = away if map_location is None else is_gpu(map_location)
        return put(tensor) if to_gpu else tensor

    found = _load(file, map_location="cpu", **options)
    return tree_map(read, found, is_leaf=lambda x: isinstance(x, dict) and "__gpu__" in x)


@contextmanager
def files_remember_devices():
    """Without a GPU, files that a GPU wrote are known as such."""
    with patch("torch.save", save), patch("torch.load", load):
        yield


def grouped(tensorlists, with_indices=False):
    """By device and dtype, as PyTorch's optimisers and clipping ask for; the device pretended."""
    found = _grouped(tensorlists, with_indices)
    return {
        (GPU if isinstance(lists[0][0], OnGpu) else device, dtype): (lists, indices)
        for (device, dtype), (lists, indices) in found.items()
    }


@contextmanager
def pretended_gpu():
    """A machine with a GPU, for the time of the ``with`` block."""
    with (
        files_remember_devices(),
        patch("torch.cuda.is_available", lambda: True),
        patch("torch.cuda.get_device_name", lambda device=None: NAME),
        patch("torch.cuda.synchronize", lambda device=None: None),
        patch("torch.cuda.mem_get_info", lambda device=None: (80 * 2**30, 80 * 2**30)),
        patch("torch.autocast", lambda device, dtype: _autocast("cpu", dtype)),
        patch("torch.nn.Module.to", module_to),
        patch("torch.nn.utils.clip_grad._group_tensors_by_device_and_dtype", grouped),
        Pretend(),
    ):
        yield GPU
