# SPDX-License-Identifier: GPL-2.0
"""What tutorial.md uses of PyTorch, by the tests' own libcuda.so.1."""

import array
import ctypes

_cuda = ctypes.CDLL("libcuda.so.1")
int32 = "i"


def _checked(ret):
    assert ret == 0, f"libcuda: {ret}"


class _Tensor:
    is_cuda = True

    def __init__(self, values):
        self._n = len(values)
        context, ptr = ctypes.c_void_p(), ctypes.c_ulonglong()
        _checked(_cuda.cuInit(0))
        _checked(_cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0))
        _checked(_cuda.cuCtxPushCurrent_v2(context))
        _checked(_cuda.cuMemAlloc_v2(ctypes.byref(ptr), ctypes.c_size_t(4 * self._n)))
        self._ptr = ptr.value
        self._put(values)

    def _put(self, values):
        data = (ctypes.c_int * self._n).from_buffer(values)
        _checked(_cuda.cuMemcpyHtoD_v2(ctypes.c_ulonglong(self._ptr), data,
                                       ctypes.c_size_t(4 * self._n)))

    def data_ptr(self):
        return self._ptr

    def element_size(self):
        return 4

    def numel(self):
        return self._n

    def is_contiguous(self):
        return True

    def zero_(self):
        self._put(array.array("i", bytes(4 * self._n)))

    def __getitem__(self, i):
        one = ctypes.c_int()
        _checked(_cuda.cuMemcpyDtoH_v2(ctypes.byref(one), ctypes.c_ulonglong(self._ptr + 4 * i),
                                       ctypes.c_size_t(4)))
        return one.value


def arange(n, device, dtype):
    assert (device, dtype) == ("cuda", int32)
    return _Tensor(array.array("i", range(n)))


class cuda:
    @staticmethod
    def synchronize():
        pass
