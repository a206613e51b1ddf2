"""The small part of torch that the Python client 0.4.1 uses: tensors of numbers for a custom loss."""

import numpy as np


class Dtype:
    def __init__(self, is_floating_point):
        self.is_floating_point = is_floating_point


float32, int64 = Dtype(True), Dtype(False)


class Tensor:
    def __init__(self, values):
        self.values = np.asarray(values, dtype=np.float32)
        self.grad = None
        self.dtype = float32
        self.shape = self.values.shape

    def clone(self):
        return Tensor(self.values)

    def detach(self):
        return self

    def requires_grad_(self, _):
        return self

    def flatten(self):
        return Tensor(self.values.flatten())

    def tolist(self):
        return self.values.tolist()

    def __neg__(self):
        return Tensor(-self.values)


def tensor(values, dtype=None):
    return Tensor(values)
