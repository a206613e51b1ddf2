"""The small part of torch that the Python client uses for custom losses: tensors, and gradients of sums and products.

The package index has torch only with gigabytes of libraries for graphics processors.
"""

import numpy as np

from . import fx


class dtype:
    def __init__(self, name, is_floating_point):
        self.name, self.is_floating_point = name, is_floating_point


class device:
    pass


class layout:
    pass


class memory_format:
    pass


float32, int64, bfloat16 = dtype("float32", True), dtype("int64", False), dtype("bfloat16", True)


class Tensor:
    def __init__(self, values, inputs=()):
        """`inputs`: the tensors that this one was computed from, each with a function that gives its part of the gradient."""
        array = np.asarray(values)
        self.values = array if array.dtype.kind == "i" else array.astype(np.float32)
        self.inputs = inputs
        self.grad = None
        self.dtype = int64 if array.dtype.kind == "i" else float32
        self.shape, self.ndim = self.values.shape, self.values.ndim

    def backward(self):
        self._add_gradient(np.ones_like(self.values))

    def _add_gradient(self, gradient):
        self.grad = Tensor(gradient if self.grad is None else self.grad.values + gradient)
        for tensor, part in self.inputs:
            tensor._add_gradient(part(gradient))

    def __mul__(self, other):
        inputs = [(self, lambda g: g * other.values), (other, lambda g: g * self.values)]
        return Tensor(self.values * other.values, inputs)

    def __add__(self, other):
        if other == 0:
            return self
        return Tensor(self.values + other.values, [(self, lambda g: g), (other, lambda g: g)])

    __radd__ = __add__

    def __neg__(self):
        return Tensor(-self.values, [(self, lambda g: -g)])

    def sum(self):
        return Tensor(self.values.sum(), [(self, lambda g: np.broadcast_to(g, self.shape))])

    def clone(self):
        return Tensor(self.values)

    detach = contiguous = float = clone

    def reshape(self, shape):
        return Tensor(self.values.reshape(shape))

    def flatten(self):
        return Tensor(self.values.flatten())

    def requires_grad_(self, _):
        return self

    def to(self, _):
        return self

    def numpy(self):
        return self.values

    def tolist(self):
        return self.values.tolist()

    def item(self):
        return self.values.item()


def tensor(values, dtype=None):
    return Tensor(values)


def from_numpy(array):
    return Tensor(array)
