# SPDX-License-Identifier: GPL-2.0
# io_uring reads and writes straight to dma-bufs: the front door.
#
# Each target is a short call of a tool in tools/testing/lab; `make help` says what
# there is.  Everything generated goes below build/.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory

LAB := tools/testing/lab
BUILD := build
BENCH := tools/testing/bench
LIBRARY := tools/uring-dmabuf
SELFTESTS := tools/testing/selftests/io_uring_dmabuf tools/testing/selftests/net/netmem

# Given on the command line; the tools read them from the environment.
JOBS ?= $(shell nproc)
V ?= 0
export JOBS V KERNEL_SRC CPUS SEED KERNEL_GIT

# Programs of ours are small: their compiler output shows only what is wrong.
submake = $(MAKE) -s -j$(JOBS)

.DEFAULT_GOAL := help
.PHONY: help deps tree kernel headers tests demo test soak run shell bench check series bisect deb deb-tools clean distclean

help:
	@sed -n 's/^#- \{0,1\}//p' Makefile

#- make demo      from an empty Debian machine (as root) to data moving between an NVMe
#-                drive and a dma-buf, and a report of what it cost
#- make test      the tests, on the plain kernel, and many of them on the debug kernel, too
#-                  TESTS='glob...'  KERNEL=plain|debug  IOMMU=..  TOPO=..   only these
#-                  LAB_BOOTS=n   guests at a time, by default 2 if there is room for them
#-                  CPUS=n        processors of a guest (run and shell, too), by default 2
#- make soak      long runs: TESTS, KERNEL, CPUS as above, SEED=n replays one; the report is
#-                build/soak-report.txt
#- make run CMD='program arguments'   run a program of this machine in the guest
#-                  IOMMU=strict|lazy|off|bounce  KERNEL=plain|debug|stock  TOPO=switch|bridge|net|netbridge|netmany
#- make shell     a root shell in the guest, with the lab's devices
#- make bench     instructions per I/O, our kernel against stock
#- make check     shellcheck, checkpatch, sparse, W=1; patches apply with no fuzz
#- make series    mailable patches in build/series
#-                  KERNEL_GIT=DIR  a clone of the kernel's git: with Fixes: lines
#- make bisect    every patch builds at its place, in five configurations (hours)
#- make deb       Debian packages of the kernel for a real machine: REAL-HARDWARE.md
#-                  LOCALMOD=yes|file|lab  CONFIG=file
#- make deb-tools Debian packages of the library, the programs and the Python module
#- make deps      install the Debian packages (tools/testing/lab/packages.txt)
#- make kernel    build a kernel (KERNEL=plain|debug|stock)
#- make clean     remove what was built, keep the download; make distclean: all of build/
#-
#- Everywhere: JOBS=n parallel compilers, V=1 show everything, KERNEL_SRC=directory or
#- tarball of Linux 7.3.y instead of Debian's package.

deps:
	@$(LAB)/deps

tree:
	@$(LAB)/deps build
	@$(LAB)/tree

kernel:
	@$(LAB)/deps build
	@$(LAB)/kernel $(or $(KERNEL),plain)

# The programs that run in the guest; compiled against the headers of our kernel. And the
# engine for fio, where the source of this machine's fio is to be had.
tests: | $(BUILD)
	@mkdir -p $(BUILD)/tests/netmem
	@echo "Selftests"
	@for d in $(SELFTESTS); do \
		case $$d in */netmem) out=tests/netmem ;; *) out=tests ;; esac; \
		$(submake) -C $$d OUTPUT="$(CURDIR)/$(BUILD)/$$out" \
			KSFT="$(CURDIR)/$(BUILD)/linux/tools/testing/selftests" \
			KHDR_INCLUDES="-isystem $(CURDIR)/$(BUILD)/headers/include" || exit 1; \
	done
	@$(submake) -C $(LIBRARY) OUTPUT="$(CURDIR)/$(BUILD)/uring-dmabuf"
	@if fio=$$($(LAB)/fio-source); then \
		$(submake) -C $(LIBRARY) OUTPUT="$(CURDIR)/$(BUILD)/uring-dmabuf" fio FIO_SOURCE="$$fio"; \
	else \
		echo "  no engine for fio: its tests are skipped"; \
		rm -f $(BUILD)/uring-dmabuf/fio-uring-dmabuf.so; \
	fi
	@$(submake) -C $(LIBRARY)/tests OUTPUT="$(CURDIR)/$(BUILD)/tests/uring-dmabuf" \
		LIBRARY="$(CURDIR)/$(BUILD)/uring-dmabuf" \
		KSFT="$(CURDIR)/$(BUILD)/linux/tools/testing/selftests" \
		KHDR_INCLUDES="-isystem $(CURDIR)/$(BUILD)/headers/include"

$(BUILD):
	@mkdir -p $@

demo:
	@$(LAB)/deps build run
	@$(LAB)/kernel plain
	@LAB_VM="$(CURDIR)/$(LAB)/vm" LAB_BUILD="$(CURDIR)/$(BUILD)" $(BENCH)/demo

bench:
	@$(LAB)/deps build run
	@$(LAB)/kernel plain stock
	@LAB_VM="$(CURDIR)/$(LAB)/vm" LAB_BUILD="$(CURDIR)/$(BUILD)" $(BENCH)/bench

test:
	@$(LAB)/deps build run test
	@$(LAB)/kernel $(or $(KERNEL),plain)
	@$(MAKE) tests
	@LAB_BUILD_DEBUG=$(if $(KERNEL),,1) KERNEL="$(KERNEL)" IOMMU="$(IOMMU)" TOPO="$(TOPO)" \
		TESTS="$(value TESTS)" $(LAB)/run-tests

soak:
	@$(LAB)/deps build run test
	@$(LAB)/kernel $(or $(KERNEL),plain)
	@$(MAKE) tests
	@KERNEL="$(or $(KERNEL),plain)" IOMMU="$(IOMMU)" TOPO="$(TOPO)" TESTS="$(value TESTS)" $(LAB)/soak

# CMD goes through the environment: quotes and spaces in it survive.
run: export LAB_CMD = $(value CMD)
run:
	@[ -n "$$LAB_CMD" ] || { echo "make run CMD='program arguments' [IOMMU=strict|lazy|off|bounce] [KERNEL=plain|debug|stock] [TOPO=switch|bridge|net|netbridge|netmany]" >&2; exit 2; }
	@$(LAB)/deps build run >&2
	@$(LAB)/kernel $(or $(KERNEL),plain) >&2
	@$(LAB)/vm -k $(or $(KERNEL),plain) -i $(or $(IOMMU),strict) -t $(or $(TOPO),switch) \
		-T $(or $(TIMEOUT),600) -n run -- bash -c "$$LAB_CMD"

shell:
	@$(LAB)/deps build run
	@$(LAB)/kernel $(or $(KERNEL),plain)
	@$(LAB)/vm -k $(or $(KERNEL),plain) -i $(or $(IOMMU),strict) -t $(or $(TOPO),switch) -n shell

check:
	@$(LAB)/deps build check
	@$(LAB)/check

series:
	@$(LAB)/deps build
	@$(LAB)/series

bisect:
	@$(LAB)/deps build
	@$(LAB)/bisect $(SERIES)

deb:
	@$(LAB)/deps build deb
	@LOCALMOD="$(LOCALMOD)" CONFIG="$(CONFIG)" $(LAB)/deb

deb-tools:
	@$(LAB)/deps deb-tools $(if $(CHECK),deb-tools-check)
	@$(LAB)/deb-tools $(if $(CHECK),check)

clean:
	@find $(BUILD) -mindepth 1 -maxdepth 1 ! -name cache -exec rm -rf {} + 2>/dev/null || :

distclean:
	@rm -rf $(BUILD)
