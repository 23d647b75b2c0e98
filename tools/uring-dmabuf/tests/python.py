#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""
The Python module of liburing-dmabuf. Every byte is compared with what plain preadv() and
pwritev() see. Without a drive of the lab (LAB_NVME_MAIN), or a kernel that can register
dma-bufs, what bounces is tested all the same, with a file.

    python.py [WORD...]    only tests that have one of the words in their names
"""
import asyncio
import contextlib
import ctypes
import errno
import faulthandler
import functools
import gc
import mmap
import os
import pathlib
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import unittest

TOP = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "python"))
sys.dont_write_bytecode = True

import uring_dmabuf as ud  # noqa: E402

KiB, MiB = 1 << 10, 1 << 20
SIZE = 4 * MiB
POISON = 0xa5
PATIENCE = 20       # seconds; nothing takes that long


class Tap(unittest.TestResult):
    """TAP version 13; what went wrong comes before its line."""
    count = 0

    def say(self, test, ok, more=""):
        self.count += 1
        name = test if isinstance(test, str) else test.id().removeprefix("__main__.")
        print(f"{'ok' if ok else 'not ok'} {self.count} {name.replace('.test_', '.')}{more}",
              flush=True)
        faulthandler.cancel_dump_traceback_later()

    def startTest(self, test):
        faulthandler.dump_traceback_later(120, exit=True)

    def addSuccess(self, test):
        self.say(test, True)

    def addSkip(self, test, reason):
        self.say(test, True, f" # SKIP {reason}")

    def addError(self, test, err):
        self.failures.append((test, None))
        for line in "".join(traceback.format_exception(*err)).splitlines():
            print("#", line)
        self.say(test, False)

    addFailure = addError


# ---- what they compare with ----

@functools.lru_cache(16)
def pattern(seed, size=SIZE):
    return random.Random(seed).randbytes(size)


def poison(size=SIZE):
    return bytes([POISON]) * size


class Disk:
    """A drive of the lab, or a file; by the page cache or without, as the system allows."""
    def __init__(self):
        path = os.environ.get("LAB_NVME_MAIN")
        if path:
            self.fd = os.open(path, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
            return
        fd, path = tempfile.mkstemp()
        try:
            os.ftruncate(fd, 2 * SIZE)
            self.fd = os.open(path, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
            os.close(fd)
        except OSError:     # a file system that has no O_DIRECT
            self.fd = fd
        os.unlink(path)

    def put(self, off, data):
        with mmap.mmap(-1, len(data)) as page_aligned:
            page_aligned[:] = data
            assert os.pwritev(self.fd, [page_aligned], off) == len(data)

    def get(self, off, size):
        with mmap.mmap(-1, size) as page_aligned:
            assert os.preadv(self.fd, [page_aligned], off) == size
            return page_aligned[:]

    def close(self):
        os.close(self.fd)


def a_memory(size=SIZE, specs=("udmabuf", "heap:system", "host")):
    """From the first source that this machine has."""
    why = []
    for spec in specs:
        try:
            return ud.Memory.open(spec, size)
        except ud.DmabufError as e:
            why.append(str(e))
    raise unittest.SkipTest(f"no memory: {'; '.join(why)}")


def tcp_pair(small=False):
    """Over loopback. What does not fit into the sockets waits for the receiver."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        tx = socket.socket()
        if small:
            tx.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * KiB)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KiB)
        tx.connect(server.getsockname())
        return tx, server.accept()[0]


class Receiver(threading.Thread):
    def __init__(self, sock, size):
        super().__init__()
        self.sock, self.size, self.data = sock, size, bytearray()
        sock.settimeout(PATIENCE)
        self.start()

    def run(self):
        while len(self.data) < self.size:
            part = self.sock.recv(self.size - len(self.data))
            if not part:
                break
            self.data += part

    def received(self):
        self.join()
        return bytes(self.data)


@contextlib.contextmanager
def alarm_in(seconds, handler):
    """The handler runs then, and every 50 ms after that."""
    old = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.05)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


class Case(unittest.TestCase):
    def closing(self, thing):
        self.addCleanup(thing.close)
        return thing

    def assertSame(self, got, want):
        """Bytes; does not print megabytes."""
        self.assertEqual(len(got), len(want))
        if got != want:
            at = next(i for i, (a, b) in enumerate(zip(got, want)) if a != b)
            self.fail(f"byte {at} is {got[at]:#x}, not {want[at]:#x}")

    @contextlib.contextmanager
    def fails(self, number, stage=None):
        """By a DmabufError with that errno, and words; with the reason of a registration."""
        with self.assertRaises(ud.DmabufError) as caught:
            yield caught
        e = caught.exception
        self.assertEqual(errno.errorcode[e.errno], errno.errorcode[number], str(e))
        self.assertGreater(len(str(e)), 10)
        if stage:
            self.assertEqual(e.reason.stage, stage, str(e))
            self.assertTrue(e.reason.text.endswith("."), e.reason)
            self.assertIn(e.reason.text, str(e))


# ---- the interface ----

# Functions of the library that the module has no use for, and why
NOT_BOUND = {
    **dict.fromkeys(
        ["io_uring_dmabuf_add_targets", "io_uring_dmabuf_map_info", "io_uring_dmabuf_register",
         "io_uring_dmabuf_register_range", "io_uring_dmabuf_register_table",
         "io_uring_dmabuf_unregister", "io_uring_dmabuf_update"],
        "takes a struct io_uring of liburing, which is none of Python's: IO does it"),
    "io_uring_dmabuf_stat": "calls back from C; `uring-dmabuf stat --json` says the same",
}
STRUCTS_NOT_BOUND = {
    "io_uring_dmabuf_desc": "of functions that are not bound",
    "io_uring_dmabuf_stat": "of a function that is not bound",
}


class Interface(Case):
    header = (TOP / "include/uring-dmabuf.h").read_text()

    def test_functions(self):
        there = set(re.findall(r"^\t\t(\w+);", (TOP / "liburing-dmabuf.map").read_text(), re.M))
        bound = set(re.findall(r"(\w+)\([^)]*\);", ud.CDEF))
        self.assertGreater(len(bound), 20)
        self.assertEqual(there, bound | NOT_BOUND.keys())
        self.assertFalse(bound & NOT_BOUND.keys())
        for name in bound:
            self.assertTrue(callable(getattr(ud.lib, name)))

    def test_prototypes(self):
        def prototypes(text):
            found = re.findall(r"^((?:const )?\w+ \*?(\w+)\([^;{]*\));", text, re.M)
            return {name: " ".join(whole.split()) for whole, name in found}

        header, ours = prototypes(self.header), prototypes(ud.CDEF)
        self.assertGreater(len(ours), 20)
        self.assertEqual(ours, {name: header.get(name) for name in ours})

    def test_layout(self):
        """The compiler's word for sizes, offsets and numbers."""
        structs = set(re.findall(r"^struct (\w+) \{", self.header, re.M))
        bound = set(re.findall(r"^struct (\w+) \{", ud.CDEF, re.M))
        self.assertEqual(structs, bound | STRUCTS_NOT_BOUND.keys())
        want = {}
        for name in bound:
            c = ud.ffi.typeof("struct " + name)
            want[f"sizeof(struct {name})"] = ud.ffi.sizeof(c)
            for field, f in c.fields:
                want[f"offsetof(struct {name}, {field})"] = f.offset
                want[f"sizeof(((struct {name} *)0)->{field})"] = ud.ffi.sizeof(f.type)
        for name in "RDONLY", "WRONLY", "REQUIRE_P2P", "PIN", "COPY_OK":
            want["IO_URING_DMABUF_" + name] = getattr(ud, name)
        want["DMABUF_IO_BOUNCE"] = ud.BOUNCE
        want["DMABUF_IO_WAITED"] = ud._WAITED
        for name in "_READ", "_WRITE", "_SEND":
            want["DMABUF_IO" + name] = getattr(ud, name)
        for i, part in enumerate(ud.__version__.split(".")):
            want["URING_DMABUF_VERSION_" + ("MAJOR", "MINOR")[i]] = int(part)
        self.assertEqual(self.compiled(want), want)

    def compiled(self, expressions):
        if not shutil.which("gcc"):
            self.skipTest("no gcc")
        code = '#include <stdio.h>\n#include "uring-dmabuf.h"\nint main(void)\n{\n'
        for e in expressions:
            code += f'\tprintf("%llu\\n", (unsigned long long)({e}));\n'
        with tempfile.TemporaryDirectory() as d:
            source = pathlib.Path(d, "layout.c")
            source.write_text(code + "}\n")
            gcc = subprocess.run(["gcc", "-D_GNU_SOURCE", "-I", TOP / "include", "-o",
                                  source.with_suffix(""), source], capture_output=True, text=True)
            if "liburing.h: No such file" in gcc.stderr:
                self.skipTest("no liburing.h")
            self.assertEqual(gcc.returncode, 0, gcc.stderr)
            out = subprocess.run([source.with_suffix("")], capture_output=True, text=True)
        return dict(zip(expressions, map(int, out.stdout.split())))

    def test_query(self):
        if ud.supported():
            caps = ud.query()
            self.assertEqual(caps.desc_size, 80)
            self.assertGreaterEqual(caps.version, 1)
            self.assertGreater(caps.max_size, 1 << 30)
        else:
            with self.fails(errno.EOPNOTSUPP):
                ud.query()


# ---- memory ----

class Memory(Case):
    def check(self, memory):
        data = pattern(1, 10000)
        memory.write(0, poison(memory.size))
        memory.write(5001, memoryview(data)[:9999])
        self.assertSame(memory.read(5000, 10001), poison(1) + data[:9999] + poison(1))
        self.assertEqual(memory.read(memory.size, 0), b"")
        for off, n in (memory.size - 1, 2), (memory.size + 1, 0), ((1 << 64) - 1, 2):
            with self.fails(errno.EFAULT):
                memory.read(off, n)
            with self.fails(errno.EFAULT):
                memory.write(off, bytes(n))

    def open(self, spec, size=SIZE):
        try:
            return self.closing(ud.Memory.open(spec, size))
        except ud.DmabufError as e:
            if e.errno in (errno.ENOENT, errno.ENODEV):
                self.skipTest(str(e))
            raise

    def test_udmabuf(self):
        self.check(self.open("udmabuf"))

    def test_heap(self):
        self.check(self.open("heap:system"))

    def test_host(self):
        self.check(self.open("host"))

    def test_fd(self):
        memory = self.open("udmabuf")
        os.fstat(memory.fd)
        again = self.closing(ud.Memory.open(f"fd:{memory.fd}"))
        self.assertEqual(again.size, SIZE)
        self.assertNotEqual(again.fd, memory.fd)
        again.write(100, b"the same")
        self.assertEqual(memory.read(100, 8), b"the same")
        part = self.closing(ud.Memory.open(f"fd:{memory.fd}", 4096))
        self.assertEqual(part.size, 4096)
        with self.fails(errno.EINVAL):
            ud.Memory.open(f"fd:{memory.fd}", SIZE + 1)

    def view(self, spec):
        memory = self.open(spec)
        view = memory.view()
        self.assertEqual(len(view), SIZE)
        view[7:12] = b"bytes"
        self.assertEqual(memory.read(7, 5), b"bytes")
        memory.write(SIZE - 1, b"!")
        self.assertEqual(view[-1], ord("!"))
        # it stays as long as a view of it does, and its descriptor, too
        fd, part = memory.fd, view[7:12]
        memory.close()
        del view
        self.assertEqual(bytes(part), b"bytes")
        if fd >= 0:
            os.fstat(fd)
            del part
            with self.assertRaises(OSError):
                os.fstat(fd)

    def test_view(self):
        self.view("host")

    def test_view_of_a_dmabuf(self):
        self.view("udmabuf")

    def test_closed(self):
        with a_memory() as memory:
            memory.write(0, b"x")
        memory.close()
        for use in (lambda: memory.read(0, 1), lambda: memory.write(0, b"x"), memory.view,
                    lambda: memory.fd):
            with self.assertRaisesRegex(ValueError, "closed"):
                use()
        with ud.IO() as io, self.assertRaisesRegex(ValueError, "closed"):
            io.add_buffer(memory, ud.BOUNCE)

    def test_wrong(self):
        for spec, number in (("nothing", errno.EINVAL), ("fd:x", errno.EINVAL),
                             ("fd:0x", errno.EINVAL), ("fd:999999", errno.EBADF),
                             ("heap:no-such-heap", errno.ENOENT)):
            with self.fails(number):
                ud.Memory.open(spec, 4096)
        with self.fails(errno.EINVAL):
            ud.Memory.open("udmabuf")
        with tempfile.TemporaryFile() as f, self.fails(errno.EINVAL):
            ud.Memory.open(f"fd:{f.fileno()}")
        for what in "text", None, [1], 1.5:
            with self.assertRaises(TypeError):
                ud.Memory.of(what)
        with self.assertRaises(TypeError):
            ud.Memory.of(4096)


# ---- memory of CUDA, for which fake-cuda.c stands ----

class Tensor:
    """What the module wants of PyTorch's."""
    is_cuda = True

    def __init__(self, ptr, elements, contiguous=True):
        self.ptr, self.elements, self.contiguous = ptr, elements, contiguous

    def data_ptr(self):
        return self.ptr

    def element_size(self):
        return 2

    def numel(self):
        return self.elements

    def is_contiguous(self):
        return self.contiguous


class Array:
    def __init__(self, ptr, shape, typestr="<f4", strides=None, readonly=False):
        self.__cuda_array_interface__ = {"data": (ptr, readonly), "shape": shape, "version": 3,
                                         "typestr": typestr, "strides": strides}


class Cuda(Case):
    HOST, MANAGED = 0x710000000000, 0x720000000000

    def setUp(self):
        try:
            self.cuda = ctypes.CDLL("libcuda.so.1")
            self.allocations = ctypes.c_int.in_dll(self.cuda, "fake_cuda_allocations")
            self.contexts = ctypes.c_int.in_dll(self.cuda, "fake_cuda_contexts")
        except (OSError, ValueError):
            self.skipTest("no fake libcuda.so.1 in LD_LIBRARY_PATH")
        # it initializes itself by this
        with contextlib.suppress(ud.DmabufError):
            ud.Memory.open("cuda:0", 4096).close()
        context = ctypes.c_void_p()
        self.cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
        self.cuda.cuCtxPushCurrent_v2(context)
        self.before = self.allocations.value, self.contexts.value

    def tearDown(self):
        gc.collect()
        self.assertEqual((self.allocations.value, self.contexts.value), self.before)

    def alloc(self, size):
        ptr = ctypes.c_ulonglong()
        self.assertEqual(self.cuda.cuMemAlloc_v2(ctypes.byref(ptr), ctypes.c_size_t(size)), 0)
        self.before = self.before[0] + 1, self.before[1]
        return ptr.value

    def test_tensor(self):
        ptr = self.alloc(20000)
        tensor = Tensor(ptr, 10000)
        with ud.Memory.of(tensor) as memory:
            self.assertEqual((memory.size, memory.device_ptr), (20000, ptr))
            self.assertEqual(memory.offset, ptr % (2 * MiB))
            memory.write(0, pattern(2, 20000))
            self.assertSame(memory.read(0, 20000), pattern(2, 20000))
            with self.fails(errno.EFAULT):
                memory.read(1, 20000)
            with self.fails(errno.EOPNOTSUPP):
                memory.view()
            # it keeps the tensor
            self.assertGreater(len(gc.get_referrers(tensor)), 0)
        tensor.nbytes = 20000
        with ud.Memory.of(tensor, 4096) as memory:
            self.assertEqual(memory.size, 4096)
            self.assertSame(memory.read(0, 4096), pattern(2, 20000)[:4096])
        with ud.Memory.of(ptr + 3, 10) as memory:
            self.assertSame(memory.read(0, 10), pattern(2, 20000)[3:13])
        with self.assertRaises(ValueError):
            ud.Memory.of(tensor, 20001)
        with self.assertRaisesRegex(ValueError, "contiguous"):
            ud.Memory.of(Tensor(ptr, 10000, contiguous=False))
        tensor.is_cuda = False
        with self.assertRaisesRegex(ValueError, "CPU"):
            ud.Memory.of(tensor)

    def test_array(self):
        ptr = self.alloc(6000)
        for shape, strides, size in (((10, 150), None, 6000), ((10, 150), (600, 4), 6000),
                                     ((1, 1500), (7, 4), 6000), ((), None, 4), ((3,), (4,), 12)):
            with ud.Memory.of(Array(ptr, shape, strides=strides)) as memory:
                self.assertEqual(memory.size, size, shape)
        with ud.Memory.of(Array(ptr, (3, 5), "|u1")) as memory:
            self.assertEqual(memory.size, 15)
        for strides in (4, 40), (1200, 8):
            with self.assertRaisesRegex(ValueError, "contiguous"):
                ud.Memory.of(Array(ptr, (10, 75), strides=strides))
        with self.fails(errno.EINVAL):
            ud.Memory.of(Array(ptr, (0, 5)))
        with ud.Memory.of(Array(ptr, (1024,), readonly=True)) as memory, ud.IO() as io:
            with self.fails(errno.EACCES):
                memory.write(0, b"x")
            self.assertEqual(io.add_buffer(memory).flags, ud.RDONLY)
            disk = self.closing(Disk())
            buffer, target = io.add_buffer(memory, ud.BOUNCE), io.add_target(disk.fd)
            with self.fails(errno.EACCES):
                io.read(target, buffer)
            self.assertEqual(io.write(target, buffer), 4096)

    def test_wrong(self):
        for ptr, number in ((1 << 40, errno.EFAULT), (self.HOST, errno.EOPNOTSUPP),
                            (self.MANAGED, errno.EOPNOTSUPP), (0, errno.EINVAL)):
            with self.fails(number):
                ud.Memory.of(ptr, 4096)
        with self.fails(errno.EINVAL):
            ud.Memory.of(self.alloc(2 * MiB), 2 * MiB + 1)
        with self.fails(errno.ENODEV):
            ud.Memory.open("cuda:1", 4096)

    def move(self, flags):
        ptr, disk = self.alloc(12 * KiB), self.closing(Disk())
        disk.put(0, pattern(3, 64 * KiB))
        with ud.Memory.of(Tensor(ptr, 6 * KiB)) as memory, ud.IO() as io:
            buffer, target = io.add_buffer(memory, flags), io.add_target(disk.fd)
            io.prepare(buffer, target)
            memory.write(0, poison(12 * KiB))
            self.assertEqual(io.read(target, buffer, 8 * KiB, buffer_off=2048,
                                     target_off=4096), 8 * KiB)
            self.assertSame(memory.read(0, 12 * KiB), poison(2048) +
                            pattern(3, 64 * KiB)[4096:12 * KiB] + poison(2048))
            memory.write(0, pattern(4, 12 * KiB))
            self.assertEqual(io.write(target, buffer, target_off=8192), 12 * KiB)
        self.assertSame(disk.get(0, 64 * KiB), pattern(3, 64 * KiB)[:8192] +
                        pattern(4, 12 * KiB) + pattern(3, 64 * KiB)[20 * KiB:])

    def test_bounces(self):
        self.move(ud.BOUNCE)

    def test_direct(self):
        if not ud.supported() or "LAB_NVME_MAIN" not in os.environ:
            self.skipTest("no kernel that registers dma-bufs, or no LAB_NVME_MAIN")
        self.move(0)


# ---- reads, writes and sends: of what is registered, and of what bounces ----

class Moves:
    flags = 0
    specs = "udmabuf", "heap:system"

    def setUp(self):
        if not self.bounces():
            if not ud.supported():
                self.skipTest("this kernel cannot register dma-bufs")
            if "LAB_NVME_MAIN" not in os.environ:
                self.skipTest("LAB_NVME_MAIN is not set")
        self.memory = self.closing(a_memory(SIZE, self.specs))
        self.disk = self.closing(Disk())
        self.io = self.closing(ud.IO(depth=64, max_buffers=4, max_targets=3))

    def bounces(self):
        return self.flags == ud.BOUNCE

    def ready(self):
        buffer = self.io.add_buffer(self.memory, self.flags)
        target = self.io.add_target(self.disk.fd)
        self.io.prepare(buffer, target)
        return buffer, target

    def sends(self, small=True):
        """A buffer with a pattern, a target, the two sockets."""
        tx, rx = map(self.closing, tcp_pair(small))
        self.memory.write(0, pattern(5))
        buffer = self.io.add_buffer(self.memory, self.flags or ud.COPY_OK)
        target = self.io.add_target(tx)
        self.io.prepare(buffer, target)
        return buffer, target, tx, rx

    # -- bytes --

    def test_read(self):
        buffer, target = self.ready()
        self.disk.put(0, pattern(6))
        self.memory.write(0, poison())
        n = 2 * MiB + 4096
        self.assertEqual(self.io.read(target, buffer, n, buffer_off=8192, target_off=4096), n)
        self.assertSame(self.memory.read(0, SIZE), poison(8192) + pattern(6)[4096:4096 + n] +
                        poison(SIZE - 8192 - n))
        # all of the buffer, and from somewhere on to its end
        self.assertEqual(self.io.read(target, buffer), SIZE)
        self.assertSame(self.memory.read(0, SIZE), pattern(6))
        self.assertEqual(self.io.read(target, buffer, buffer_off=MiB), SIZE - MiB)
        self.assertSame(self.memory.read(0, SIZE), pattern(6)[:MiB] + pattern(6)[:SIZE - MiB])

    def test_write(self):
        buffer, target = self.ready()
        self.disk.put(0, poison())
        self.memory.write(0, pattern(7))
        n = 2 * MiB + 8192
        self.assertEqual(self.io.write(target, buffer, n, buffer_off=4096, target_off=12288), n)
        self.assertSame(self.disk.get(0, SIZE), poison(12288) + pattern(7)[4096:4096 + n] +
                        poison(SIZE - 12288 - n))

    def test_copied(self):
        buffer, target = self.ready()
        r = self.io.submit_read(target, buffer, MiB)
        self.assertEqual(r.wait(PATIENCE), MiB)
        # memory of the process is read into as it is
        copied = MiB if self.bounces() and self.memory.fd >= 0 else 0
        self.assertEqual((r.moved, r.copied), (MiB, copied))
        self.assertIs(r.buffer, buffer)
        self.assertIs(r.target, target)
        self.assertEqual(r.size, MiB)

    def test_end_of_a_file(self):
        directory = os.environ.get("LAB_EXT4")
        if not self.bounces() and not directory:
            self.skipTest("LAB_EXT4 is not set")
        with tempfile.TemporaryFile(dir=directory) as f:
            f.write(pattern(8, 50000))
            f.flush()
            os.fsync(f.fileno())
            # by the file's object, which is closed before the read
            if directory:
                f = self.closing(open(os.open(f"/proc/self/fd/{f.fileno()}",
                                              os.O_RDONLY | os.O_DIRECT), "rb"))
            buffer = self.io.add_buffer(self.memory, self.flags)
            target = self.io.add_target(f)
            f.close()
        self.io.prepare(buffer, target)
        self.assertEqual(self.io.read(target, buffer, MiB, target_off=4096), 50000 - 4096)
        self.assertSame(self.memory.read(0, 50000 - 4096), pattern(8, 50000)[4096:])
        self.assertEqual(self.io.read(target, buffer, 4096, target_off=64 * KiB), 0)

    # -- many at once --

    def test_many(self):
        buffer, target = self.ready()
        self.disk.put(0, pattern(9))
        self.memory.write(0, poison())
        waiting = {self.io.submit_read(target, buffer, 64 * KiB, buffer_off=off, target_off=off)
                   for off in range(0, 60 * 64 * KiB, 64 * KiB)}
        # of those only wait() gives back
        own = self.io.submit_read(target, buffer, 4096, buffer_off=60 * 64 * KiB, waited=True)
        while waiting:
            got = self.io.reap(7, PATIENCE)
            self.assertTrue(0 < len(got) <= 7)
            for r in got:
                self.assertTrue(r.done())
                self.assertEqual(r.wait(), 64 * KiB)
                waiting.remove(r)       # each of them once
        self.assertEqual(self.io.reap(timeout=0.05), [])
        self.assertEqual(own.wait(PATIENCE), 4096)
        self.assertEqual(own.wait(), 4096)
        self.assertFalse(own.cancel())
        # nothing is kept
        self.assertFalse(self.io._in_flight or self.io._ready)
        self.assertSame(self.memory.read(0, SIZE)[:60 * 64 * KiB + 4096],
                        pattern(9)[:60 * 64 * KiB] + pattern(9)[:4096])

    def test_wait_or_reap(self):
        buffer, target = self.ready()
        rs = [self.io.submit_write(target, buffer, 4096) for _ in range(10)]
        # by name, the last first; these are not reaped any more
        for r in rs[:4:-1]:
            self.assertEqual(r.wait(PATIENCE), 4096)
        got = []
        while len(got) < 5:
            got += self.io.reap(timeout=PATIENCE)
        self.assertEqual(set(got), set(rs[:5]))
        self.assertEqual(self.io.reap(timeout=0), [])

    def test_event_fd(self):
        buffer, target = self.ready()
        fd = self.io.event_fd
        self.assertEqual(fd, self.io.event_fd)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        n = 0
        for _ in range(40):
            self.io.submit_read(target, buffer, 4096)
        while n < 40:
            self.assertTrue(poll.poll(PATIENCE * 1000))
            os.eventfd_read(fd)
            while got := self.io.reap(8, 0):
                n += len(got)
        self.assertEqual(n, 40)

    def test_threads(self):
        buffer, target = self.ready()
        self.disk.put(0, pattern(10))
        self.memory.write(0, poison())
        wrong, part = [], SIZE // 4

        def reads(nr):
            for off in range(nr * part, (nr + 1) * part, 16 * KiB):
                n = self.io.read(target, buffer, 16 * KiB, buffer_off=off, target_off=off)
                if n != 16 * KiB:
                    wrong.append(n)

        threads = [threading.Thread(target=reads, args=[i]) for i in range(4)]
        for t in threads:
            t.start()
        # and one that reaps its own meanwhile
        for _ in range(20):
            self.io.submit_read(target, buffer, 4096)
        n = 0
        while n < 20:
            got = self.io.reap(timeout=PATIENCE)
            self.assertTrue(got)
            n += len(got)
        for t in threads:
            t.join()
        self.assertEqual(wrong, [])
        self.assertSame(self.memory.read(0, SIZE), pattern(10))

    def test_threads_that_wait_for_what_is_reaped(self):
        buffer, target = self.ready()
        wrong = []

        def waits():
            for _ in range(10):
                if self.io.submit_read(target, buffer, 4096).wait(PATIENCE) != 4096:
                    wrong.append(1)

        threads = [threading.Thread(target=waits) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(wrong, [])
        self.assertEqual(self.io.reap(timeout=0), [])

    def test_as_deep_as_asked_for(self):
        buffer, target, _, rx = self.sends()
        rs = [self.io.submit_send(target, buffer) for _ in range(64)]
        with self.fails(errno.EAGAIN):
            self.io.submit_send(target, buffer)
        rx.close()
        for r in rs:
            with self.assertRaises(ud.DmabufError):
                r.wait(PATIENCE)

    def test_deeper_than_asked_for(self):
        """The others are waited for, also if nobody else takes what is done."""
        buffer, target = self.ready()
        for _ in range(64):
            self.io.submit_write(target, buffer, 4096)
        self.assertEqual(self.io.write(target, buffer, 4096), 4096)
        n = 0
        while n < 64:
            n += len(self.io.reap(timeout=PATIENCE))

    # -- asyncio --

    def test_asyncio(self):
        buffer, target = self.ready()
        self.disk.put(0, pattern(11))
        self.memory.write(0, poison())

        async def main(n):
            # more than the handle is deep
            return await asyncio.gather(*(
                self.io.aread(target, buffer, 16 * KiB, buffer_off=off, target_off=off)
                for off in range(0, n * 16 * KiB, 16 * KiB)))

        # a loop of its own each time
        self.assertEqual(asyncio.run(main(1)), [16 * KiB])
        self.assertEqual(asyncio.run(main(256)), [16 * KiB] * 256)
        self.assertSame(self.memory.read(0, SIZE), pattern(11))

        async def wrong():
            with self.fails(errno.EFAULT):
                await self.io.aread(target, buffer, SIZE, buffer_off=4096)
            return await self.io.awrite(target, buffer, 4096)

        self.assertEqual(asyncio.run(wrong()), 4096)

    def test_asyncio_beside_threads(self):
        buffer, target = self.ready()
        end = threading.Event()

        def reads():
            while not end.is_set():
                self.io.read(target, buffer, 4096)

        threads = [threading.Thread(target=reads) for _ in range(2)]
        for t in threads:
            t.start()

        async def main():
            for _ in range(10):
                got = await asyncio.wait_for(asyncio.gather(
                    *(self.io.aread(target, buffer, 4096) for _ in range(20))), PATIENCE)
                self.assertEqual(got, [4096] * 20)

        try:
            asyncio.run(main())
        finally:
            end.set()
            for t in threads:
                t.join()

    def test_asyncio_in_two_threads(self):
        buffer, target = self.ready()
        wrong = []

        async def main():
            for _ in range(20):
                if await asyncio.wait_for(self.io.aread(target, buffer, 4096), PATIENCE) != 4096:
                    wrong.append(1)

        def loops():
            try:
                asyncio.run(main())
            except BaseException as e:
                wrong.append(e)

        threads = [threading.Thread(target=loops) for _ in range(2)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(wrong, [])

    def test_asyncio_sends(self):
        buffer, target, _, rx = self.sends()
        peer = Receiver(rx, 20 * 150001)

        async def main():
            return await asyncio.gather(*(
                self.io.asend(target, buffer, 150001, buffer_off=i * 1000) for i in range(20)))

        self.assertEqual(asyncio.run(main()), [150001] * 20)
        # in their order
        self.assertSame(peer.received(),
                        b"".join(pattern(5)[i * 1000:i * 1000 + 150001] for i in range(20)))

    def test_asyncio_cancelled(self):
        buffer, target, _, rx = self.sends()

        async def main():
            task = asyncio.create_task(self.io.asend(target, buffer))
            await asyncio.sleep(0.1)
            self.assertFalse(task.done())
            task.cancel()
            await asyncio.sleep(0.1)
            rx.close()
            with self.assertRaises(asyncio.CancelledError):
                await task
            # it has ended
            buffer.remove()

        asyncio.run(main())

    # -- sends --

    def test_send(self):
        buffer, target, _, rx = self.sends(small=False)
        n = 3 * MiB + 7
        peer = Receiver(rx, n)
        r = self.io.submit_send(target, buffer, n, buffer_off=1000)
        self.assertEqual(r.wait(PATIENCE), n)
        self.assertSame(peer.received(), pattern(5)[1000:1000 + n])
        # loopback reads no memory: the CPU did, and it is said
        self.assertEqual(r.copied, n)
        peer = Receiver(rx, SIZE)
        self.assertEqual(self.io.send(target, buffer), SIZE)
        self.assertSame(peer.received(), pattern(5))

    def test_send_by_a_socket_that_does_not_block(self):
        buffer, target, tx, rx = self.sends()
        tx.setblocking(False)
        r = self.io.submit_send(target, buffer)
        peer = Receiver(rx, SIZE)
        self.assertEqual(r.wait(PATIENCE), SIZE)
        self.assertSame(peer.received(), pattern(5))

    def test_peer_that_goes(self):
        buffer, target, _, rx = self.sends()
        rx.close()
        with self.assertRaises(ud.DmabufError) as caught:
            # the first may be in the socket before the peer says that it is gone
            for _ in range(3):
                self.io.send(target, buffer)
        self.assertIn(caught.exception.errno, (errno.EPIPE, errno.ECONNRESET))
        self.assertLess(caught.exception.moved, SIZE)
        self.assertIsNone(caught.exception.reason)

    def test_timeouts(self):
        buffer, target, _, rx = self.sends()
        r = self.io.submit_send(target, buffer)
        start = time.monotonic()
        with self.assertRaises(TimeoutError):
            r.wait(0.5)
        self.assertEqual(self.io.reap(timeout=0.3), [])
        self.assertTrue(0.8 <= time.monotonic() - start < PATIENCE)
        self.assertFalse(r.done())
        peer = Receiver(rx, SIZE)
        self.assertEqual(r.wait(PATIENCE), SIZE)
        self.assertSame(peer.received(), pattern(5))

    def test_cancel(self):
        buffer, target, _, rx = self.sends()
        rs = [self.io.submit_send(target, buffer, waited=i == 1) for i in range(3)]
        self.assertTrue(rs[1].cancel())
        # and what was to come behind it
        for r in rs[1:]:
            with self.fails(errno.ECANCELED):
                r.wait(PATIENCE)
            self.assertEqual(r.moved, 0)
            self.assertFalse(r.cancel())
        self.assertTrue(rs[0].cancel())
        rx.close()
        with self.assertRaises(ud.DmabufError) as caught:
            rs[0].wait(PATIENCE)
        self.assertEqual(caught.exception.moved, rs[0].moved)
        self.assertLess(rs[0].moved, SIZE)

    # -- signals --

    def blocked(self):
        buffer, target, _, rx = self.sends()
        return self.io.submit_send(target, buffer, waited=True), buffer, target, rx

    def test_signal_handlers_run(self):
        r, _, _, rx = self.blocked()
        alarms, peers = [], []

        def handler(*_):
            alarms.append(1)
            if len(alarms) == 3:
                peers.append(Receiver(rx, SIZE))

        with alarm_in(0.1, handler):
            self.assertEqual(r.wait(PATIENCE), SIZE)
        self.assertSame(peers[0].received(), pattern(5))

    def test_signal_handlers_raise(self):
        class Alarm(Exception):
            pass

        def handler(*_):
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise Alarm

        r, _, _, rx = self.blocked()
        for sleep in r.wait, self.io.reap:
            with self.assertRaises(Alarm), alarm_in(0.1, handler):
                sleep(timeout=PATIENCE)
        # also while another thread sleeps in the kernel for both
        other = threading.Thread(target=lambda: self.io.reap(timeout=1))
        other.start()
        time.sleep(0.1)
        start = time.monotonic()
        with self.assertRaises(Alarm), alarm_in(0.1, handler):
            r.wait(PATIENCE)
        self.assertLess(time.monotonic() - start, 0.8)
        other.join()
        # it has been in flight all the time
        peer = Receiver(rx, SIZE)
        self.assertEqual(r.wait(PATIENCE), SIZE)
        self.assertSame(peer.received(), pattern(5))

    def test_keyboard_interrupt(self):
        buffer, target, _, rx = self.sends()
        timers = [threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)),
                  threading.Timer(0.4, rx.close)]
        for t in timers:
            t.start()
        old = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with self.assertRaises(KeyboardInterrupt):
                self.io.send(target, buffer)
        finally:
            signal.signal(signal.SIGINT, old)
            for t in timers:
                t.join()
        # the memory is free
        buffer.remove()
        target.remove()

    def test_signals_lose_nothing(self):
        buffer, target = self.ready()
        taken = []

        def handler(*_):
            taken.append(1)

        with alarm_in(0.001, handler):
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            for _ in range(20):
                waiting = {self.io.submit_read(target, buffer, 4096) for _ in range(20)}
                while waiting:
                    waiting.difference_update(self.io.reap(timeout=PATIENCE))
                self.assertEqual(self.io.read(target, buffer, 4096), 4096)
        self.assertTrue(taken)

    # -- the end --

    def test_close_with_a_send_in_flight(self):
        r, buffer, target, rx = self.blocked()
        reaped = self.io.submit_send(target, buffer)
        if not self.bounces():
            # what the peer has not taken holds the memory, until a reset
            rx.close()
        with self.fails(errno.EBUSY):
            self.memory.close()
        self.io.close()
        for one in r, reaped:
            self.assertTrue(one.done())
            with self.assertRaises(ud.DmabufError) as caught:
                one.wait()
            self.assertLess(one.moved, SIZE)
            self.assertEqual(caught.exception.moved, one.moved)
            self.assertFalse(one.cancel())
        self.assertEqual(caught.exception.errno, errno.ECANCELED)
        self.io.close()
        for use in (lambda: self.io.add_target(0), lambda: self.io.reap(timeout=0),
                    lambda: self.io.send(target, buffer), lambda: self.io.event_fd,
                    buffer.remove, target.remove):
            with self.assertRaisesRegex(ValueError, "closed"):
                use()
        self.memory.close()

    def test_close_while_threads_wait(self):
        r, buffer, target, rx = self.blocked()
        rs, results = [r, self.io.submit_send(target, buffer)], []

        def waits(r):
            try:
                results.append(r.wait())
            except ud.DmabufError as e:
                results.append(e.errno)

        def reaps():
            try:
                while True:
                    self.io.reap()
            except ValueError:
                results.append("closed")

        threads = [threading.Thread(target=waits, args=[r]) for r in rs]
        threads.append(threading.Thread(target=reaps))
        for t in threads:
            t.start()
        time.sleep(0.1)
        if not self.bounces():
            rx.close()
        self.io.close()
        for t in threads:
            t.join()
        self.assertEqual(results.count("closed"), 1)
        self.assertEqual(len(results), 3)

    def test_close_in_a_signal_handler(self):
        r, _, _, rx = self.blocked()

        def handler(*_):
            if not self.bounces():
                rx.close()
            self.io.close()

        with alarm_in(0.1, handler), self.assertRaises(ud.DmabufError):
            r.wait(PATIENCE)

    def test_never_closed(self):
        """What has no name any more is closed, with what is in flight."""
        before = len(os.listdir("/proc/self/fd"))
        buffer, target = self.ready()
        with a_memory(MiB, self.specs) as memory:
            io = ud.IO()
            buffer, target = io.add_buffer(memory, self.flags), io.add_target(self.disk.fd)
            io.prepare(buffer, target)
            for _ in range(4):
                io.submit_read(target, buffer, 4096)
            del io, buffer, target
            gc.collect()
        self.io.close()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before - 1)

    def test_busy(self):
        r, buffer, target, rx = self.blocked()
        for use in buffer.remove, target.remove, self.memory.close:
            with self.fails(errno.EBUSY):
                use()
        peer = Receiver(rx, SIZE)
        self.assertEqual(r.wait(PATIENCE), SIZE)
        peer.received()
        with self.fails(errno.EBUSY):
            self.memory.close()
        target.remove()
        buffer.remove()
        self.memory.close()
        self.memory.close()

    def test_child(self):
        buffer, target = self.ready()
        pid = os.fork()
        if not pid:
            code = 1
            try:
                self.io.read(target, buffer, 4096)
            except ValueError:
                code = 0
            finally:
                self.io.close()
                os._exit(code)
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        self.assertEqual(self.io.read(target, buffer, 4096), 4096)

    # -- what is wrong --

    def test_stale(self):
        buffer, target = self.ready()
        buffer.remove()
        again, _ = self.ready()
        for use in (buffer.remove, lambda: self.io.prepare(buffer, target),
                    lambda: self.io.read(target, buffer, 4096),
                    lambda: self.io.map_info(buffer)):
            with self.fails(errno.EBADF):
                use()
        target.remove()
        for use in (target.remove, lambda: self.io.prepare(again, target),
                    lambda: self.io.read(target, again, 4096)):
            with self.fails(errno.EBADF):
                use()

    def test_wrong_requests(self):
        buffer, target = self.ready()
        _, sock, _, _ = self.sends()
        wrong = [
            (errno.EINVAL, self.io.read, target, {"size": 0}),
            (errno.EFAULT, self.io.read, target, {"size": SIZE, "buffer_off": 4096}),
            (errno.EFAULT, self.io.read, target, {"size": 4096, "buffer_off": SIZE}),
            (errno.EFAULT, self.io.write, target, {"size": 1 << 63}),
            (errno.EINVAL, self.io.write, target, {"size": 4096, "target_off": (1 << 63) - 1}),
            (errno.ENOTSOCK, self.io.send, target, {"size": 4096}),
            (errno.EOPNOTSUPP, self.io.read, sock, {"size": 4096}),
        ]
        if "LAB_NVME_MAIN" in os.environ:
            # what the kernel refuses
            wrong.append((errno.EINVAL, self.io.read, target, {"size": 4096, "target_off": 100}))
        for number, call, to, where in wrong:
            with self.fails(number):
                call(to, buffer, **where)
        for where in {"size": -1}, {"buffer_off": -1}, {"target_off": 1 << 64}:
            with self.assertRaises(OverflowError):
                self.io.read(target, buffer, **where)
        with ud.IO() as other:
            for use in (lambda: other.read(target, buffer), lambda: other.map_info(buffer),
                        lambda: other.prepare(buffer, target)):
                with self.assertRaisesRegex(ValueError, "another IO"):
                    use()
        self.assertEqual(self.io.read(target, buffer, 4096), 4096)

    def test_wrong_buffers_and_targets(self):
        for flags in ud.BOUNCE | ud.RDONLY, 1 << 4:
            with self.fails(errno.EINVAL):
                self.io.add_buffer(self.memory, flags)
        with self.fails(errno.EBADF):
            self.io.add_target(999999)
        with self.assertRaises(AttributeError):
            self.io.add_target("a path")
        buffers = [self.io.add_buffer(self.memory, self.flags) for _ in range(4)]
        with self.fails(errno.ENOSPC):
            self.io.add_buffer(self.memory, self.flags)
        targets = [self.io.add_target(self.disk.fd) for _ in range(3)]
        with self.fails(errno.ENOSPC):
            self.io.add_target(self.disk.fd)
        for one in buffers + targets:
            one.remove()
        for params in {"depth": 1 << 20}, {"max_buffers": 1 << 16}:
            with self.fails(errno.EINVAL):
                ud.IO(**params)


class Bounce(Moves, Case):
    flags = ud.BOUNCE
    specs = "udmabuf", "heap:system", "cuda:0"

    def test_nothing_to_prepare(self):
        buffer, target = self.ready()
        if ud.supported():
            self.assertEqual(self.io.map_info(buffer).nr_targets, 0)

    def test_kernel_that_cannot(self):
        if ud.supported():
            self.skipTest("this kernel can register dma-bufs")
        buffer, target = self.io.add_buffer(self.memory), self.io.add_target(self.disk.fd)
        with self.fails(errno.EOPNOTSUPP, "none"):
            self.io.prepare(buffer, target)
        with self.fails(errno.ENOTCONN):
            self.io.read(target, buffer)


class Host(Moves, Case):
    """On any machine."""
    flags = ud.BOUNCE
    specs = "host",

    def test_only_bounces(self):
        self.assertEqual(self.memory.fd, -1)
        with self.fails(errno.EBADF):
            self.io.add_buffer(self.memory)
        view = self.memory.view()
        self.memory.write(1, b"seen")
        self.assertEqual(bytes(view[1:5]), b"seen")


class Direct(Moves, Case):
    def test_map_info(self):
        buffer, target = self.ready()
        self.io.prepare(buffer, target)     # once more is nothing
        info = self.io.map_info(buffer)
        self.assertEqual((info.nr_targets, info.size, info.state), (1, SIZE, "system"))
        self.assertEqual(info.device, os.environ.get("LAB_PCI_MAIN", info.device))
        self.assertIn(info.exporter, ("udmabuf", "system"))
        self.io.read(target, buffer)
        self.assertGreater(self.io.map_info(buffer).hits, info.hits)
        self.assertEqual(self.io.map_info(buffer).copied_bytes, 0)
        with self.assertRaises(ud.DmabufError):
            self.io.map_info(buffer, 1)

    def test_not_prepared(self):
        buffer, target = self.io.add_buffer(self.memory), self.io.add_target(self.disk.fd)
        with self.fails(errno.ENOTCONN):
            self.io.read(target, buffer)

    def test_reasons(self):
        buffer, target = self.ready()
        with open("/dev/zero", "rb") as zero, open(os.environ["LAB_NVME_MAIN"], "rb") as buffered:
            for file, number in (zero, errno.EOPNOTSUPP), (buffered, errno.EINVAL):
                wrong = self.io.add_target(file)
                with self.fails(number, "target"):
                    self.io.prepare(buffer, wrong)
                wrong.remove()
        # loopback has no device, and no copy is allowed
        tx, _ = map(self.closing, tcp_pair())
        with self.fails(errno.EOPNOTSUPP, "target"):
            self.io.prepare(buffer, self.io.add_target(tx))
        both = self.io.add_buffer(self.memory, ud.RDONLY | ud.WRONLY)
        with self.fails(errno.EINVAL, "descriptor"):
            self.io.prepare(both, target)
        both.remove()
        # memory of the system is none of a peer
        with self.fails(errno.EREMOTEIO, "address") as caught:
            self.io.prepare(self.io.add_buffer(self.memory, ud.REQUIRE_P2P), target)
        reason = caught.exception.reason
        self.assertEqual((reason.state, reason.peer2peer, reason.target), ("system", 1, 0))
        self.assertEqual(reason.device, os.environ.get("LAB_PCI_MAIN", reason.device))
        self.assertIn(reason.device, str(caught.exception))
        self.assertEqual(self.io.read(target, buffer, 4096), 4096)

    def test_one_way(self):
        target = self.io.add_target(self.disk.fd)
        only_read = self.io.add_buffer(self.memory, ud.RDONLY)
        self.io.prepare(only_read, target)
        self.assertEqual(self.io.write(target, only_read, 4096), 4096)
        with self.fails(errno.EFAULT):
            self.io.read(target, only_read, 4096)


def main():
    tests = [t for group in unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
             for t in group if not sys.argv[1:] or any(w in t.id() for w in sys.argv[1:])]
    print(f"TAP version 13\n1..{len(tests) + 1}", flush=True)
    # a fake libcuda has a descriptor from its first use on
    with contextlib.suppress(ud.DmabufError):
        ud.Memory.open("cuda:0", 4096).close()
    before = sorted(os.listdir("/proc/self/fd"))
    result = Tap()
    unittest.TestSuite(tests).run(result)
    gc.collect()
    left = sorted(os.listdir("/proc/self/fd"))
    if left != before:
        print(f"# descriptors before {before}, after {left}")
    result.say("no descriptor is left", left == before)
    return 1 if result.failures or left != before else 0


if __name__ == "__main__":
    sys.exit(main())
