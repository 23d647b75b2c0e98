# SPDX-License-Identifier: GPL-2.0
# awk -f json.awk -f table.awk -f net.awk RUN.json: what a send costs by size and by
# kind, on one card and under a strict IOMMU, and the verdict.  Exit 1 when a byte is wrong or a
# figure is not what it must be, each said in a line that starts with "FAIL".

BEGIN {
	kinds = split("send plain pages dmabuf bar", kind, " ")
	label["send"] = "send()"
	label["plain"] = "plain"
	label["pages"] = "plain, 4K"
	label["dmabuf"] = "dma-buf"
	label["bar"] = "PCI BAR"
}

/"what":"(insns|events)"/ {
	verified += number($0, "verified_bytes")
	wrong += number($0, "wrong_bytes")
	again += number($0, "again")
	if (number($0, "acks_low") != 1 || number($0, "acks_high") != 1)
		acks++
}

/"what":"path"/ {
	size = number($0, "size")
	know(size)
	value["insns", text($0, "kind"), size] = number($0, "path") * 1048576 / size
	windows = number($0, "windows")
	low = number($0, "lowest") / number($0, "path")
	high = number($0, "highest") / number($0, "path")
	worst_low = !worst_low || low < worst_low ? low : worst_low
	worst_high = high > worst_high ? high : worst_high
	card = text($0, "device")
	iommu = text($0, "iommu")
}

/"what":"general"/ { general[text($0, "kind"), number($0, "size")] = number($0, "path") }

/"what":"events"/ {
	k = text($0, "kind") SUBSEP number($0, "size")
	mib = number($0, "sends") * number($0, "size") / 1048576
	counted[k] = 1
	count_payload($0, mib)
	value["allmaps", k] = (number($0, "dma_map") + number($0, "dma_unmap")) / mib
	value["allflush", k] = number($0, "flush") / mib
	value["packets", k] = number($0, "packets") / mib
}

function table(what, head,	i, k, line)
{
	printf "\n%-44s", head
	for (k = 1; k <= kinds; k++)
		printf " %11s", label[kind[k]]
	print what == "insns" ? "   dma-buf of plain, of send()" : ""
	for (i = 1; i <= sizes; i++) {
		line = sprintf("%44s", human(order[i]))
		for (k = 1; k <= kinds; k++)
			line = line sprintf(" %11s", entry(what, kind[k], order[i]))
		if (what == "insns")
			line = line sprintf("   %.3f            %.3f", ratio("dmabuf", "plain", order[i]),
					    ratio("dmabuf", "send", order[i]))
		print line
	}
}

# The smallest size from which on a dma-buf is never dearer than @other.
function crossover(other,	i, from)
{
	for (i = sizes; i >= 1 && ratio("dmabuf", other, order[i]) > 0 &&
	     ratio("dmabuf", other, order[i]) <= 1; i--)
		from = order[i]
	printf "a dma-buf is never dearer than %s %s\n", label[other],
		from ? "from " human(from) " on" : "at no size"
}

# What net-path.list, which is for sends only, makes of the figures: it is part of no verdict
function without_the_list(	i, size)
{
	for (i = 1; i <= sizes; i++) {
		size = order[i]
		if (size >= 65536 && general["plain", size] && general["send", size])
			printf "%s, by path.list alone: %.3fx of plain, %.3fx of send()\n", human(size),
				general["dmabuf", size] / general["plain", size],
				general["dmabuf", size] / general["send", size]
	}
}

function check_zero(what, what_text,	k, part, n, bad)
{
	for (k in counted) {
		split(k, part, SUBSEP)
		if (part[1] != "dmabuf" && part[1] != "bar")
			continue
		n++
		bad += !((what, k) in value) || value[what, k] != 0
	}
	verdict(n && !bad, sprintf("dma-buf and PCI BAR: 0 %s (%d cases)", what_text, n))
}

function check_ratio(other, limit,	i, r)
{
	for (i = 1; i <= sizes; i++) {
		if (order[i] < 65536)
			continue
		r = ratio("dmabuf", other, order[i])
		verdict(r && r <= limit, sprintf("%s: %.3fx of the instructions of %s (at most %.2f)",
			human(order[i]), r, label[other], limit))
	}
}

# Every copied byte of send(), and what some drivers pull into the header of a packet.
function check_controls(	i, c, copies, maps)
{
	copies = maps = sizes
	for (i = 1; i <= sizes; i++) {
		c = value["copied", "send", order[i]] - 1048576
		copies -= c >= 0 && c <= 4 * value["packets", "send", order[i]]
		maps -= value["maps", "plain", order[i]] > 0 && value["flush", "plain", order[i]] > 0
	}
	verdict(sizes && !copies, "the copy counter sees send() copy every byte, at every size")
	verdict(sizes && !maps, "the map and invalidation counters see the payload of a plain registered buffer")
}

END {
	if (!sizes || iommu != "strict") {
		print "net: nothing was measured under a strict IOMMU" > "/dev/stderr"
		exit 1
	}
	printf "%s, IOMMU strict; per MiB, on the sender (instructions: median of %d windows,\n", card, windows
	printf "which are all within %.1f %% .. +%.1f %% of it)\n", (worst_low - 1) * 100, (worst_high - 1) * 100
	table("insns", "guest instructions, path, copies left out")
	table("copied", "bytes copied by the CPU")
	table("maps", "DMA maps + unmaps of the payload")
	table("flush", "IOTLB invalidations of the payload")
	table("allmaps", "DMA maps + unmaps, with headers and receiving")
	table("allflush", "IOTLB invalidations, likewise")
	table("packets", "packets handed to the driver")
	print ""
	crossover("send")
	crossover("plain")
	without_the_list()
	print ""
	verdict(verified > 0 && !wrong, sprintf("%.0f bytes received, all compared: %d wrong", verified, wrong))
	verdict(!again && !acks, "every window was sent once and acknowledged once")
	check_zero("maps", "DMA maps and unmaps of the payload")
	check_zero("flush", "IOTLB invalidations of the payload")
	check_zero("copied", "bytes copied by the CPU")
	check_controls()
	check_ratio("plain", 0.62)
	check_ratio("send", 1.00)
	exit failed
}
