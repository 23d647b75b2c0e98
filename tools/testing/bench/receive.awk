# SPDX-License-Identifier: GPL-2.0
# awk -f json.awk -f table.awk -f receive.awk RUN.json: what receiving costs the
# receiver by recv() and by RECV_ZC into a slot. Exit 1 when a byte is wrong, when RECV_ZC copies
# or maps, or when it takes more instructions than recv() does with its copying, of packets that
# carry a page. (Those of MTU 1500 are for comparison: for each of them e1000e maps a header.)
#
# The documents' figures are throughput of other hardware: they are printed beside, and nothing
# is held to them.

BEGIN {
	label["recv"] = "recv()"
	label["epoll"] = "epoll_wait(), recv()"
	label["zc"] = "RECV_ZC into a slot"
}

/"what":"(insns|events)"/ {
	verified += number($0, "verified_bytes")
	wrong += number($0, "wrong_windows")
	k = text($0, "case")
	mib = number($0, "verified_bytes") / 1048576
}

/"what":"insns"/ {
	order[++n] = k
	kind[k] = text($0, "kind")
	size[k] = number($0, "size")
	mtu[k] = number($0, "mtu")
	windows = number($0, "windows")
	# warm windows are compared, too
	value["calls", k] = number($0, "calls") / windows
	value["pieces", k] = number($0, "pieces") / windows
}

/"what":"path"/ {
	k = text($0, "case")
	per = 1048576 / size[k]
	value["insns", k] = number($0, "path") * per
	value["copy", k] = number($0, "copy") * per
	value["low", k] = (number($0, "lowest") / number($0, "path") - 1) * 100
	value["high", k] = (number($0, "highest") / number($0, "path") - 1) * 100
	card = text($0, "device")
	iommu = text($0, "iommu")
}

/"what":"events"/ {
	w = number($0, "windows")
	counted[k] = 1
	value["maps", k] = number($0, "page_maps") / w
	value["allmaps", k] = (number($0, "dma_map") + number($0, "dma_unmap")) / w
	value["flush", k] = number($0, "flush") / w
	value["copied", k] = index($0, "\"copy_bytes\":") ? number($0, "copy_bytes") / w : -1
}

function all(k) { return value["insns", k] + value["copy", k] }

function row(k)
{
	printf "  %-21s %8s %5d %9d %9d %+6.1f..%+.1f %% %8d %6d %6d %6d %7.1f %6d\n", label[kind[k]],
		kind[k] == "zc" ? "-" : human(size[k]), mtu[k], value["insns", k], value["copy", k],
		value["low", k], value["high", k], value["copied", k], value["maps", k],
		value["allmaps", k], value["flush", k], value["calls", k], value["pieces", k]
}

# Every other way at the same MTU beside RECV_ZC
function beside(k,	i, o, r)
{
	for (i = 1; i <= n; i++) {
		o = order[i]
		if (kind[o] == "zc" || mtu[o] != mtu[k])
			continue
		printf "  MTU %d: %-21s %8s : RECV_ZC  %.2f, with the copying %.2f   (%s)\n", mtu[k],
			label[kind[o]], human(size[o]), value["insns", o] / value["insns", k],
			all(o) / all(k), kind[o] == "epoll" ? "throughput, +29 % and +41 %" : "throughput, +100 %"
		if (kind[o] == "recv" && mtu[k] > 4096) {
			r = all(k) / all(o)
			lines[++verdicts] = sprintf("MTU %d: RECV_ZC takes %.3f of the instructions of recv() of %s, its copying counted",
				mtu[k], r, human(size[o]))
			good[verdicts] = r < 1
		}
	}
}

END {
	if (!n || iommu != "strict") {
		print "receive: nothing was measured under a strict IOMMU" > "/dev/stderr"
		exit 1
	}
	printf "%s, IOMMU %s; per MiB, on the receiver (median of %d windows)\n\n", card, iommu, windows
	printf "  %-21s %8s %5s %9s %9s %15s %8s %6s %6s %6s %7s %6s\n", "", "bytes of", "", "insns,",
		"insns,", "windows are", "bytes", "maps,", "all", "IOTLB", "system", ""
	printf "  %-21s %8s %5s %9s %9s %15s %8s %6s %6s %6s %7s %6s\n", "", "a call", "MTU", "path",
		"copying", "within", "copied", "pages", "maps", "inval.", "calls", "pieces"
	for (i = 1; i <= n; i++)
		row(order[i])
	print "\nhow many times as many instructions (in brackets the documents' figure, of other hardware):"
	for (i = 1; i <= n; i++)
		if (kind[order[i]] == "zc") {
			beside(order[i])
			zero += counted[order[i]] && value["copied", order[i]] == 0 &&
				value["maps", order[i]] == 0
			zcs++
		}
	print ""
	verdict(verified > 0 && !wrong, sprintf("%.0f bytes received, all compared: %d MiB with a wrong byte", verified, wrong))
	for (i = 1; i <= n; i++)
		if (kind[order[i]] != "zc")
			seen += value["copied", order[i]] >= 1048576 && value["maps", order[i]] > 0
	verdict(n > zcs && seen == n - zcs, "the counters see recv() copy every byte, and its memory mapped")
	verdict(zcs && zero == zcs, "RECV_ZC: 0 bytes copied by the CPU, 0 maps and unmaps of pages")
	for (i = 1; i <= verdicts; i++)
		verdict(good[i], lines[i])
	exit failed
}
