# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""
dma-bufs as buffers of I/O: what dmabuf_io_open(3) and dmabuf_mem_open(3) are, for Python.

Memory of a GPU, or of any exporter of dma-bufs, goes to files, drives and sockets and comes
from them, without a copy by the CPU if the kernel can; what was copied is counted.

    with Memory.of(tensor) as memory, IO() as io:
        buffer = io.add_buffer(memory)
        target = io.add_target(os.open(path, os.O_RDONLY | os.O_DIRECT))
        io.prepare(buffer, target)
        io.read(target, buffer)

Offsets and sizes are bytes, timeouts are seconds (None: without an end). Any thread may call
anything; calls that sleep do so without the GIL. What fails raises DmabufError; what was
closed, ValueError. A child process may not use what its parent has opened.

The library is liburing-dmabuf.so.0, or what the environment variable LIBURING_DMABUF names.
"""
import asyncio
import contextlib
import errno
import fcntl
import math
import operator
import os
import threading
import time
from collections import OrderedDict, namedtuple

import cffi

__version__ = "0.1"

# As in uring-dmabuf.h; tests/python.py compares the two.
CDEF = """
struct io_uring_dmabuf_reason {
	uint32_t size, stage;
	int32_t target, exporter_errno;
	uint32_t peer2peer, state;
	uint64_t bytes, limit;
	char exporter[32], device[32], text[152];
};
struct io_uring_dmabuf_caps {
	uint64_t type_mask, dmabuf_flags, update_flags, max_size;
	uint32_t desc_size, max_targets, version, features;
	uint64_t resv2[2];
};
struct io_uring_dmabuf_map {
	uint32_t slot, target, nr_targets, type, flags, state;
	uint64_t dmabuf_off, size, granule, entries, table_bytes;
	uint64_t hits, maps, invalidations, copied_bytes;
	uint32_t peer2peer, drops;
	char device[32], exporter[32];
};
struct dmabuf_mem {
	int fd;
	uint64_t off;
	size_t size;
	void *ptr;
	uint64_t device_ptr;
	const struct dmabuf_mem_ops *ops;
	void *priv;
};
struct dmabuf_io_params {
	uint32_t depth, max_buffers, max_targets, flags;
	uint64_t resv[2];
};
struct dmabuf_io_request {
	uint32_t op, flags;
	int32_t buffer, target;
	uint64_t buffer_off, target_off, size, user_data;
	int64_t result;
	uint64_t moved, copied, priv[8];
};
int io_uring_dmabuf_query(struct io_uring_dmabuf_caps *caps);
const char *io_uring_dmabuf_state_name(unsigned int state);
const char *io_uring_dmabuf_stage_name(unsigned int stage);
int io_uring_dmabuf_explain(int err, const struct io_uring_dmabuf_reason *why,
			    char *text, size_t size);
int dmabuf_mem_open(struct dmabuf_mem *mem, const char *spec, size_t size);
int dmabuf_mem_from_ptr(struct dmabuf_mem *mem, const void *ptr, size_t size);
void dmabuf_mem_close(struct dmabuf_mem *mem);
int dmabuf_mem_copy_to(struct dmabuf_mem *mem, uint64_t off, const void *from, size_t len);
int dmabuf_mem_copy_from(struct dmabuf_mem *mem, uint64_t off, void *to, size_t len);
const char *dmabuf_mem_why(void);
int dmabuf_io_open(struct dmabuf_io **io, const struct dmabuf_io_params *params);
void dmabuf_io_close(struct dmabuf_io *io);
int dmabuf_io_add_buffer(struct dmabuf_io *io, struct dmabuf_mem *mem, unsigned int flags);
int dmabuf_io_add_target(struct dmabuf_io *io, int fd);
int dmabuf_io_remove_buffer(struct dmabuf_io *io, int buffer);
int dmabuf_io_remove_target(struct dmabuf_io *io, int target);
int dmabuf_io_prepare(struct dmabuf_io *io, int buffer, int target,
		      struct io_uring_dmabuf_reason *why);
int dmabuf_io_map_info(struct dmabuf_io *io, int buffer, unsigned int target,
		       struct io_uring_dmabuf_map *map);
int dmabuf_io_submit(struct dmabuf_io *io, struct dmabuf_io_request *const *requests,
		     unsigned int nr);
int dmabuf_io_reap(struct dmabuf_io *io, struct dmabuf_io_request **requests,
		   unsigned int max, int timeout);
int dmabuf_io_wait(struct dmabuf_io *io, struct dmabuf_io_request *request, int timeout);
int dmabuf_io_cancel(struct dmabuf_io *io, struct dmabuf_io_request *request);
int dmabuf_io_event_fd(struct dmabuf_io *io);
"""

# Flags of IO.add_buffer(); BOUNCE goes alone
RDONLY = 1 << 0         # devices only read the memory
WRONLY = 1 << 1         # devices only write it
REQUIRE_P2P = 1 << 2    # peer-to-peer, or an error
PIN = 1 << 3            # the exporter must not move it
COPY_OK = 1 << 5        # a send may be a copy, if it has to
BOUNCE = 1 << 31        # by way of memory of the CPU, for any kernel and any target

_READ, _WRITE, _SEND = range(3)
_OPS = "read", "write", "send"
_WAITED = 1 << 0
_BATCH = 64
# Seconds that a call sleeps in C at most, before it looks again whether a signal handler is
# to run (it may have come just before the sleep) and whether another thread has closed the IO
_SLICE = 0.2

ffi = cffi.FFI()
ffi.cdef(CDEF)
lib = ffi.dlopen(os.environ.get("LIBURING_DMABUF") or "liburing-dmabuf.so.0")


def _record(name, struct, doc, without=()):
    fields = [f for f, _ in ffi.typeof("struct " + struct).fields
              if not f.startswith("resv") and f not in without]
    cls = namedtuple(name, fields)
    cls.__doc__ = doc
    return cls


def _values(cls, c):
    values = (getattr(c, f) for f in cls._fields)
    return cls(*(ffi.string(v).decode(errors="replace") if isinstance(v, ffi.CData) else v
                 for v in values))


Caps = _record("Caps", "io_uring_dmabuf_caps", "What the kernel can: io_uring_dmabuf_query(3).")
MapInfo = _record("MapInfo", "io_uring_dmabuf_map",
                  "A buffer for one of its devices: io_uring_dmabuf_map_info(3). state is a "
                  "word (system, p2p-bus, ...), size, table_bytes, copied_bytes are bytes.")
Reason = _record("Reason", "io_uring_dmabuf_reason",
                 "Why IO.prepare() failed: io_uring_dmabuf_register(3). stage and state are "
                 "words (target, attach, memlock, ...); text says what to do; bytes is what "
                 "RLIMIT_MEMLOCK would have to be, limit what it is.", without=["size"])


class DmabufError(OSError):
    """
    An error of the library: its errno is documented with each call, str() is for people.

    reason is a Reason if IO.prepare() failed, else None. moved is the number of bytes that a
    request has moved before it failed.
    """
    reason = None
    moved = 0

    def __str__(self):
        return self.strerror or super().__str__()


class _Closed(ValueError):
    pass


def _error(ret, what, more=""):
    return DmabufError(-ret, f"{what}: {os.strerror(-ret)}{more}")


def _checked(ret, what):
    if ret < 0:
        raise _error(ret, what)
    return ret


def _checked_mem(ret):
    if ret:
        raise DmabufError(-ret, ffi.string(lib.dmabuf_mem_why()).decode(errors="replace") or
                          os.strerror(-ret))


def query():
    """
    What the kernel can, as Caps. DmabufError: EOPNOTSUPP: it cannot register dma-bufs; EPERM:
    io_uring is not allowed here; ENOSYS: there is none.
    """
    c = ffi.new("struct io_uring_dmabuf_caps *")
    _checked(lib.io_uring_dmabuf_query(c), "io_uring_dmabuf_query")
    return _values(Caps, c)


def supported():
    """Whether the kernel can register dma-bufs. Buffers that BOUNCE need no such kernel."""
    return not lib.io_uring_dmabuf_query(ffi.new("struct io_uring_dmabuf_caps *"))


def _slices(timeout):
    """Milliseconds to sleep, again and again until the time is over, and once in any case."""
    end = math.inf if timeout is None else time.monotonic() + timeout
    while True:
        left = end - time.monotonic()
        yield math.ceil(max(0, min(_SLICE, left)) * 1000)
        if left <= 0:
            return


class _Shared:
    """
    Something of the library that any thread may use while another closes it: who uses it is
    in _inside before looking whether it is closed, and close() looks the other way round.
    """
    _c = None
    _closed = True

    def __init__(self, c):
        self._c = c
        self._inside = set()
        self._closing = threading.RLock()
        self._pid = os.getpid()
        self._closed = False

    def _check(self):
        if self._closed:
            raise _Closed(f"the {type(self).__name__} is closed")
        if self._pid != os.getpid():
            raise ValueError(f"the {type(self).__name__} is the parent process's")

    def _call(self, function, *args):
        me = threading.get_ident(), object()
        # a signal handler may raise anywhere in here
        try:
            self._inside.add(me)
            self._check()
            return function(self._c, *args)
        finally:
            self._inside.discard(me)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


# ---- memory ----

def _of_array(array):
    """(address, bytes, is it read-only) of what has a __cuda_array_interface__."""
    a = array.__cuda_array_interface__
    size = int(a["typestr"][2:])
    shape, strides = a["shape"], a.get("strides")
    for n, stride in zip(reversed(shape), reversed(strides or ())):
        if n != 1 and stride != size:
            raise ValueError("the array is not contiguous: make a copy that is")
        size *= n
    if not strides:
        size *= math.prod(shape)
    return a["data"][0], size, bool(a["data"][1])


def _of_tensor(tensor):
    if not getattr(tensor, "is_cuda", True):
        raise ValueError("the tensor is in memory of the CPU: that needs no dma-buf")
    if not tensor.is_contiguous():
        raise ValueError("the tensor is not contiguous: use .contiguous()")
    size = getattr(tensor, "nbytes", None)
    if size is None:
        size = tensor.element_size() * tensor.numel()
    return tensor.data_ptr(), size, False


class Memory(_Shared):
    """
    Memory that is, or is behind, a dma-buf: Memory.open() or Memory.of(). A context manager.

    size is its bytes; offset where it begins in the dma-buf; device_ptr where programs of its
    device see it (a CUDA pointer), or 0; readonly whether nothing may be written to it.
    """
    def __init__(self, make, *args, owner=None, readonly=False):
        c = ffi.gc(ffi.new("struct dmabuf_mem *"), lib.dmabuf_mem_close)
        _checked_mem(make(c, *args))
        self._owner = owner
        self.size, self.offset, self.device_ptr = c.size, c.off, c.device_ptr
        self.readonly = readonly
        super().__init__(c)

    @classmethod
    def open(cls, spec, size=0):
        """
        At least size bytes, whole pages, of "udmabuf", "heap:NAME" or "cuda:N"; or "fd:N", a
        dma-buf that the process has (size 0: all of it), whose descriptor stays the caller's;
        or "host", memory of the process that is no dma-buf, and only for BOUNCE. DmabufError
        as dmabuf_mem_open(3): EINVAL, ENOENT, ENODEV, EACCES, EBADF, ENOMEM, ...
        """
        return cls(lib.dmabuf_mem_open, os.fsencode(spec), size)

    @classmethod
    def of(cls, what, size=None):
        """
        Memory that CUDA has allocated in this process: a tensor of PyTorch, an array with
        __cuda_array_interface__ (CuPy, Numba, JAX), or a pointer and size bytes. Without a
        size all of it; it has to be contiguous (ValueError). It is kept until close().

        Kernels of the GPU that still write to it have to be waited for before it is written
        or sent from, as by torch.cuda.synchronize(). DmabufError: EFAULT: CUDA does not know
        the pointer; EOPNOTSUPP: pinned or managed memory, or the GPU cannot; ENODEV: no CUDA.
        """
        if hasattr(what, "data_ptr"):
            ptr, most, readonly = _of_tensor(what)
        elif hasattr(what, "__cuda_array_interface__"):
            ptr, most, readonly = _of_array(what)
        elif not hasattr(what, "__index__"):
            raise TypeError(f"{type(what).__name__} is no tensor, array or pointer of a device")
        elif size is None:
            raise TypeError("a pointer needs a size")
        else:
            ptr, most, readonly = operator.index(what), size, False
        if size is not None and size > most:
            raise ValueError(f"there are {most} bytes, not {size}")
        return cls(lib.dmabuf_mem_from_ptr, ffi.cast("void *", ptr),
                   most if size is None else size, owner=what, readonly=readonly)

    @property
    def fd(self):
        """The dma-buf's descriptor, which close() closes; -1: it is none ("host")."""
        return self._call(lambda c: c.fd)

    def read(self, off, n):
        """
        n bytes from off on, copied by the CPU, or by CUDA; the exporter is told before and
        after. DmabufError: EFAULT: not within the memory; EOPNOTSUPP: the exporter does not
        let the CPU map it.
        """
        data = bytearray(n)
        _checked_mem(self._call(lib.dmabuf_mem_copy_from, off, ffi.from_buffer(data), n))
        return bytes(data)

    def write(self, off, data):
        """Copies data to off; as read(). Also EACCES: the memory is read-only."""
        if self.readonly:
            raise _error(-errno.EACCES, "the array is read-only")
        data = ffi.from_buffer(data)
        _checked_mem(self._call(lib.dmabuf_mem_copy_to, off, data, len(data)))

    def view(self):
        """
        A memoryview of the memory where the CPU can map it, else DmabufError EOPNOTSUPP: use
        read() and write(). It does not tell the exporter before and after access, as these
        do. The memory stays, also after close(), until all views are gone.
        """
        c = self._call(lambda c: c)
        if not c.ptr:
            raise _error(-errno.EOPNOTSUPP, "the CPU cannot map the memory")
        ptr = ffi.gc(ffi.cast("char *", c.ptr), lambda _: c)
        view = memoryview(ffi.buffer(ptr, c.size))
        if c.fd >= 0 and fcntl.fcntl(c.fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            return view.toreadonly()
        return view

    def close(self):
        """Gives it back; once more is nothing. DmabufError EBUSY: it is a Buffer of an IO."""
        with self._closing:
            self._closed = True
            if self._inside:
                self._closed = False
                raise _error(-errno.EBUSY, "the memory is in use")
            self._c = self._owner = None


# ---- what requests are about ----

class Buffer:
    """Memory of an IO, by IO.add_buffer(). memory, size (bytes), flags."""
    def __init__(self, io, memory, flags):
        self._io, self._id = io, -1
        self._use = object()            # in the memory, which does not keep the IO by this
        self.memory, self.size, self.flags = memory, memory.size, flags

    def remove(self):
        """DmabufError: EBUSY: a request or a prepare() uses it; EBADF: it was removed."""
        _checked(self._io._call(lib.dmabuf_io_remove_buffer, self._id), "remove the buffer")
        self._io._forget(self)


class Target:
    """A file, block device or socket of an IO, by IO.add_target()."""
    def __init__(self, io, number):
        self._io, self._id = io, number

    def remove(self):
        """As Buffer.remove()."""
        _checked(self._io._call(lib.dmabuf_io_remove_target, self._id), "remove the target")


class Request:
    """
    Bytes on their way, by IO.submit_read() and its like. buffer, target, size (bytes).
    Memory of a write or a send must not change, and that of a read is undefined, until it is
    done.
    """
    def __init__(self, io, op, target, buffer, size, buffer_off, target_off, waited, future):
        self._io, self.buffer, self.target, self.size = io, buffer, target, size
        self._waited, self._future, self._done = waited, future, False
        self._c = ffi.new("struct dmabuf_io_request *", {
            "op": op, "flags": _WAITED if waited else 0, "buffer": buffer._id,
            "target": target._id, "buffer_off": buffer_off, "target_off": target_off,
            "size": size,
        })
        self._address = int(ffi.cast("uintptr_t", self._c))

    @property
    def moved(self):
        """Bytes that have been moved, also of a request that failed on the way."""
        return self._c.moved

    @property
    def copied(self):
        """Bytes of these that the CPU has copied: buffers with BOUNCE or COPY_OK."""
        return self._c.copied

    def done(self):
        """Whether it is done; does not sleep."""
        return self._until(0)

    def wait(self, timeout=None):
        """
        Bytes moved: size, or fewer at the end of a file. TimeoutError: it is not done yet.
        DmabufError: it has failed: ECANCELED after cancel() or IO.close(), EPIPE, EIO, ...
        May be called again, and by several threads. Signal handlers run; if one raises, the
        request stays in flight.
        """
        if not self._until(timeout):
            raise TimeoutError(f"the {_OPS[self._c.op]} is not done yet")
        self._io._ready.pop(self, None)
        if self._c.result < 0:
            e = _error(self._c.result, _OPS[self._c.op])
            e.moved = self.moved
            raise e
        return self._c.result

    def cancel(self):
        """
        Asks for its end, and does not wait; it may end with any result. False: it is done.
        Sends to the same target behind it end, too: a stream has no gaps.
        """
        try:
            return self._io._call(lib.dmabuf_io_cancel, self._c) == 0
        except _Closed:
            return False

    def _until(self, timeout):
        for ms in _slices(timeout):
            if not self._done:
                self._io._go_on(self, ms)
            if self._done:
                break
        return self._done


# ---- requests ----

class IO(_Shared):
    """
    Buffers, targets, and requests between them, of any thread: dmabuf_io_open(3). depth is
    how many requests can be in flight (0: 128), and there can be max_buffers and max_targets
    (0: 64). A context manager; memory is closed after it.

    A request goes on while somebody is in wait(), reap(), read() and so on, or an event loop
    runs. reap() gives back what submit_*() has submitted and nobody has waited for, but for
    what is waited=True: threads that each wait for their own should submit so, as read() and
    its like do, since what another thread reaps is noticed up to 0.2 s late.

    DmabufError: EINVAL: more than dmabuf_io_open(3) allows; ENOMEM; EPERM, ENOSYS: io_uring
    is not allowed, or there is none. Kernels that cannot register dma-bufs are no error.
    """
    def __init__(self, depth=0, max_buffers=0, max_targets=0):
        self._in_flight = {}            # by address: what the library has, or will give back
        self._ready = OrderedDict()     # was given back, but nobody has asked yet
        self._buffers = set()
        self._loops = {}                # by event loop: [descriptor, coroutines]
        self._ended = threading.Event()
        io = ffi.new("struct dmabuf_io **")
        params = {"depth": depth, "max_buffers": max_buffers, "max_targets": max_targets}
        _checked(lib.dmabuf_io_open(io, ffi.new("struct dmabuf_io_params *", params)),
                 "dmabuf_io_open")
        super().__init__(io[0])

    def close(self):
        """
        Cancels what is in flight, waits for it, and gives everything back; once more is
        nothing. Requests are done then, most of them with ECANCELED. A send whose bytes the
        peer does not take may hold its memory for as long: shut down its socket before.
        """
        with self._closing:
            if self._c is None or self._pid != os.getpid():
                return
            self._closed = True
            me = threading.get_ident()
            while any(thread != me for thread, _ in tuple(self._inside)):
                time.sleep(0.001)
            c, self._c = self._c, None
            try:
                lib.dmabuf_io_close(c)
            finally:
                for r in list(self._in_flight.values()):
                    self._end(r)
                for buffer in list(self._buffers):
                    self._forget(buffer)
                self._ended.set()

    def __del__(self):
        if self._c is not None:
            self.close()

    def add_buffer(self, memory, flags=0):
        """
        The memory, as a Buffer, which keeps it open. flags: RDONLY, WRONLY, REQUIRE_P2P, PIN,
        COPY_OK, or BOUNCE alone. Nothing is registered yet. DmabufError: EINVAL, ENOSPC: as
        many as there can be.
        """
        if memory.readonly and flags != BOUNCE:
            flags |= RDONLY
        buffer = Buffer(self, memory, flags)
        memory._inside.add(buffer._use)
        try:
            memory._check()
            self._buffers.add(buffer)
            buffer._id = _checked(self._call(lib.dmabuf_io_add_buffer, memory._c, flags),
                                  "add a buffer")
        finally:
            if buffer._id < 0:
                self._forget(buffer)
        return buffer

    def _forget(self, buffer):
        self._buffers.discard(buffer)
        buffer.memory._inside.discard(buffer._use)

    def add_target(self, file):
        """
        A descriptor or an object with fileno(), as a Target; it may be closed afterwards.
        Files and block devices are open with O_DIRECT, unless buffers BOUNCE. DmabufError:
        EBADF; ENOSPC: as many as there can be.
        """
        fd = file if isinstance(file, int) else file.fileno()
        return Target(self, _checked(self._call(lib.dmabuf_io_add_target, fd), "add a target"))

    def prepare(self, buffer, target):
        """
        Registers the buffer for the device of the target; nothing if it is. May be called
        before each request. DmabufError as io_uring_dmabuf_register(3), with its reason.
        """
        self._check_own(buffer, target)
        why = ffi.new("struct io_uring_dmabuf_reason *")
        ret = -errno.EINTR
        while ret == -errno.EINTR:
            ret = self._call(lib.dmabuf_io_prepare, buffer._id, target._id, why)
        if not ret:
            return
        text = ffi.new("char[512]")
        lib.io_uring_dmabuf_explain(ret, why, text, len(text))
        e = DmabufError(-ret, ffi.string(text).decode(errors="replace"))
        e.reason = _values(Reason, why)._replace(
            stage=ffi.string(lib.io_uring_dmabuf_stage_name(why.stage)).decode(),
            state=ffi.string(lib.io_uring_dmabuf_state_name(why.state)).decode())
        raise e

    def map_info(self, buffer, n=0):
        """
        What the buffer is for the n-th of its nr_targets devices, as MapInfo. DmabufError:
        EOPNOTSUPP, EINVAL: the kernel does not know.
        """
        self._check_own(buffer)
        c = ffi.new("struct io_uring_dmabuf_map *")
        _checked(self._call(lib.dmabuf_io_map_info, buffer._id, n, c), "map_info")
        return _values(MapInfo, c)._replace(
            state=ffi.string(lib.io_uring_dmabuf_state_name(c.state)).decode())

    def _check_own(self, *those):
        if any(one._io is not self for one in those):
            raise ValueError("a buffer or target of another IO")

    # Each of these moves size bytes (None: to the end of the buffer) between target_off of the
    # target and buffer_off of the buffer.

    def read(self, target, buffer, size=None, *, buffer_off=0, target_off=0):
        """
        From a file or block device to the buffer: how many bytes, fewer only at the end of
        the file. DmabufError: ENOTCONN: prepare() comes first; EFAULT: not within the memory;
        EBADF: it was removed; EOPNOTSUPP: a socket; EINVAL, EIO, ...: see
        dmabuf_io_submit(3). If a signal handler raises, the request is cancelled, and has
        ended before the exception goes on.
        """
        return self._sync(_READ, target, buffer, size, buffer_off, target_off)

    def write(self, target, buffer, size=None, *, buffer_off=0, target_off=0):
        """From the buffer to a file or block device; as read()."""
        return self._sync(_WRITE, target, buffer, size, buffer_off, target_off)

    def send(self, target, buffer, size=None, *, buffer_off=0):
        """To a socket, in the order of submission; as read(). ENOTSOCK: it is none."""
        return self._sync(_SEND, target, buffer, size, buffer_off)

    def submit_read(self, target, buffer, size=None, *, waited=False, **where):
        """
        A Request, to be waited for or reaped; waited: only to be waited for. where:
        buffer_off, target_off. DmabufError as read(), and EAGAIN: as many as can be are in
        flight.
        """
        return self._submit(_READ, target, buffer, size, waited=waited, **where)

    def submit_write(self, target, buffer, size=None, *, waited=False, **where):
        """As submit_read()."""
        return self._submit(_WRITE, target, buffer, size, waited=waited, **where)

    def submit_send(self, target, buffer, size=None, *, waited=False, buffer_off=0):
        """
        As submit_read(). If it fails, those behind it and those that are submitted until it
        is given back end with ECANCELED; until its wait(), if that is to be sure: waited.
        """
        return self._submit(_SEND, target, buffer, size, buffer_off, waited=waited)

    async def aread(self, target, buffer, size=None, **where):
        """
        read() for asyncio. If it is cancelled, so is the request, and CancelledError comes
        when that has ended. More than depth of them wait for each other.
        """
        return await self._async(_READ, target, buffer, size, **where)

    async def awrite(self, target, buffer, size=None, **where):
        """write() for asyncio, as aread()."""
        return await self._async(_WRITE, target, buffer, size, **where)

    async def asend(self, target, buffer, size=None, *, buffer_off=0):
        """send() for asyncio, as aread()."""
        return await self._async(_SEND, target, buffer, size, buffer_off)

    def reap(self, max=_BATCH, timeout=None):
        """
        Requests that are done, up to max, each of them once: their wait() says what came of
        them. An empty list when the time is over.
        """
        got = []
        if max < 1:
            raise ValueError("max is less than 1")
        for ms in _slices(timeout):
            if not self._ready:
                self._take(max, ms)
            with contextlib.suppress(KeyError):     # another thread has the last one
                while len(got) < max:
                    got.append(self._ready.popitem(last=False)[0])
                    got[-1]._done = True
            if got:
                break
        return got

    @property
    def event_fd(self):
        """
        An eventfd for poll() and event loops. When it is readable, read it, then call
        reap(timeout=0) until that gives nothing.
        """
        return _checked(self._call(lib.dmabuf_io_event_fd), "event_fd")

    # ---- below that ----

    def _submit(self, op, target, buffer, size, buffer_off=0, target_off=0, *, waited=False,
                future=None):
        self._check_own(target, buffer)
        if op == _READ and buffer.memory.readonly:
            raise _error(-errno.EACCES, "the array is read-only")
        if size is None:
            size = max(0, buffer.size - buffer_off)
        r = Request(self, op, target, buffer, size, buffer_off, target_off, waited, future)
        # Before, since another thread may reap it at once. If a signal handler raises now, it
        # is not known whether it was submitted, and stays here until it is reaped or the end.
        self._in_flight[r._address] = r
        ret = self._call(lib.dmabuf_io_submit, ffi.new("struct dmabuf_io_request *[]", [r._c]), 1)
        if ret == 1:
            return r
        del self._in_flight[r._address]
        raise _error(ret, _OPS[op], ": prepare() comes first" if ret == -errno.ENOTCONN else "")

    def _end(self, r):
        """What is done; it is known here only once, but may be called again."""
        self._in_flight.pop(r._address, None)
        if r._done:
            return
        if not r._waited and not r._future:
            self._ready[r] = None
        # who sees this takes it out of there
        r._done = True
        if r._future:
            with contextlib.suppress(RuntimeError):     # the loop is closed
                r._future.get_loop().call_soon_threadsafe(_set_done, r._future)

    def _take(self, most, ms):
        """What the library gives back, up to most: how many."""
        got = ffi.new("struct dmabuf_io_request *[]", most)
        try:
            ret = self._call(lib.dmabuf_io_reap, got, most, ms)
        finally:
            # also if a signal handler has raised when the library had given something back
            for c in got:
                r = c and self._in_flight.get(int(ffi.cast("uintptr_t", c)))
                if r:
                    self._end(r)
        return 0 if ret == -errno.EINTR else _checked(ret, "reap")

    def _go_on(self, r, ms):
        """Until r is done, or ms milliseconds are over, or a signal handler has run."""
        try:
            if not r._waited:
                self._take(_BATCH, ms)
            elif self._call(lib.dmabuf_io_wait, r._c, ms) == 0:
                self._end(r)
        except _Closed:
            # by another thread, which is about to say what came of it
            self._ended.wait(ms / 1000)

    def _sync(self, *request):
        while True:
            try:
                r = self._submit(*request, waited=True)
                break
            except DmabufError as e:
                if e.errno != errno.EAGAIN:
                    raise
            # nobody else may be there to let the others go on
            self._take(_BATCH, 0)
            time.sleep(0.001)
        try:
            return r.wait()
        finally:
            if not r._done:
                r.cancel()
                r._until(None)

    async def _async(self, *request, **where):
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        with self._reader(loop):
            while True:
                try:
                    r = self._submit(*request, **where, future=future)
                    break
                except DmabufError as e:
                    if e.errno != errno.EAGAIN:
                        raise
                await asyncio.sleep(0.001)
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                r.cancel()
                await asyncio.wait([future])
                raise
            return r.wait(0)

    @contextlib.contextmanager
    def _reader(self, loop):
        """The loop takes what is done while it has coroutines here."""
        if loop not in self._loops:
            fd = os.dup(self.event_fd)
            self._loops[loop] = [fd, 0]
            loop.add_reader(fd, self._on_event, fd)
        self._loops[loop][1] += 1
        try:
            yield
        finally:
            fd, n = self._loops[loop]
            self._loops[loop][1] -= 1
            if n == 1:
                del self._loops[loop]
                loop.remove_reader(fd)
                os.close(fd)

    def _on_event(self, fd):
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(fd)
        with contextlib.suppress(_Closed):
            while self._take(_BATCH, 0):
                pass


def _set_done(future):
    if not future.done():
        future.set_result(None)
