# SPDX-License-Identifier: GPL-2.0
# awk -f json.awk -f table.awk -f scale.awk RUN.json...: what a read costs, and kernel memory, as
# drives, devices, buffers and rings become more. Exit 1 when a byte is wrong, when a DMA map is
# made, when a drive has more or fewer commands than reads, or when reads into dma-bufs become
# dearer by more than 5 % with their devices, or beside ordinary memory with buffers or rings (a
# spread of 4 % was seen). Drives are shown: each has a doorbell of its own to be rung.

BEGIN {
	limit = 1.05
	split("drives targets slots rings", axes, " ")
	label["drives"] = "drives, in turn"
	label["targets"] = "devices of a buffer"
	label["slots"] = "buffers, in turn"
	label["rings"] = "rings, in turn"
}

# Which of them is not 1: "" if none is. More drives have as many devices.
function axis(line,	a)
{
	a = number(line, "drives") > 1 ? "drives" : number(line, "targets") > 1 ? "targets" : ""
	if (number(line, "slots") > 1)
		a = "slots"
	if (number(line, "rings") > 1)
		a = "rings"
	return a
}

# The first of an axis is the case where all are 1.
function step(a, n)
{
	if (!((a, n) in stepped)) {
		stepped[a, n] = 1
		order[a, ++steps[a]] = n
	}
}

/"what":"path"/ {
	a = axis($0)
	insns = number($0, "path")
	kind = text($0, "kind")
	if (number($0, "size") != 4096) {
		size = number($0, "size")
		if (!(size in sized))
			by_size[++nr_by_size] = size
		sized[size] = 1
		bysize[kind, size] = insns
		next
	}
	if (a == "") {
		for (i = 1; i <= 4; i++) {
			step(axes[i], 1)
			value[kind, axes[i], 1] = insns
		}
		if (!("1" in first_size)) {
			first_size["1"] = 1
			by_size[++nr_by_size] = 4096
		}
		bysize[kind, 4096] = insns
		next
	}
	step(a, number($0, a))
	value[kind, a, number($0, a)] = insns
}

/"what":"(insns|events)"/ {
	verified += number($0, "verified_bytes")
	wrong += number($0, "wrong_reads")
}

/"what":"events"/ && /"kind":"dmabuf"/ {
	ios += number($0, "ios")
	maps += number($0, "dma_map") + number($0, "dma_unmap")
	commands += number($0, "commands")
}

/"what":"memory"/ { memory[++memories] = $0 }

function rows(a,	i, n, plain)
{
	printf "\n%-22s %12s %12s\n", label[a], "plain", "dma-buf"
	for (i = 1; i <= steps[a]; i++) {
		n = order[a, i]
		plain = ("plain", a, n) in value ? sprintf("%.0f", value["plain", a, n]) : "-"
		printf "%22d %12s %12.0f\n", n, plain, value["dmabuf", a, n]
	}
}

# How much dearer the last is than the first
function growth(kind, a)
{
	return value[kind, a, order[a, steps[a]]] / value[kind, a, 1]
}

END {
	printf "Instructions of a 4 KiB read, strict IOMMU\n"
	for (i = 1; i <= 4; i++)
		if (steps[axes[i]] > 1)
			rows(axes[i])
	if (nr_by_size > 1) {
		printf "\n%-22s %12s %12s\n", "size of a read", "plain", "dma-buf"
		for (i = 1; i <= nr_by_size; i++)
			printf "%22s %12.0f %12.0f\n", human(by_size[i]), bysize["plain", by_size[i]],
				bysize["dmabuf", by_size[i]]
	}
	if (memories)
		printf "\n%8s %8s %8s %12s %14s %14s\n", "slots", "devices", "rings", "of", "kernel bytes", "for each slot"
	for (i = 1; i <= memories; i++) {
		m = memory[i]
		printf "%8d %8d %8d %12s %14d %14.0f\n", number(m, "slots"), number(m, "targets"),
			number(m, "rings"), human(number(m, "slot_bytes")), number(m, "kernel_bytes"),
			number(m, "kernel_bytes") / number(m, "slots") / number(m, "rings")
	}
	printf "\n"
	if (steps["targets"] > 1) {
		r = growth("dmabuf", "targets")
		verdict(r <= limit, sprintf("%d devices of a buffer: %.3fx of the instructions with one (at most %.2f)",
			order["targets", steps["targets"]], r, limit))
	}
	for (i = 1; i <= 4; i++) {
		a = axes[i]
		if (a == "targets" || a == "drives" || steps[a] < 2)
			continue
		r = growth("dmabuf", a) / growth("plain", a)
		verdict(r <= limit, sprintf("%d %s: %.3fx of the instructions with one, ordinary memory %.3fx",
			order[a, steps[a]], a, growth("dmabuf", a), growth("plain", a)))
	}
	if (ios) {
		verdict(!maps, sprintf("%d DMA maps and unmaps for %d reads into dma-bufs", maps, ios))
		verdict(commands == ios, sprintf("%d NVMe commands for %d reads into dma-bufs", commands, ios))
	}
	verdict(verified && !wrong, sprintf("%.0f bytes read, all compared: %d reads wrong", verified, wrong))
	exit failed
}
