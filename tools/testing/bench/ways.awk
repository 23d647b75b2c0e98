# SPDX-License-Identifier: GPL-2.0
# awk -f json.awk -f table.awk -f ways.awk RUN.json: what each way to send the same
# bytes costs the sender, by TCP, or, where the run was one of RDS, by RDS. Exit 1 when a byte is
# wrong, or when a way of this kernel costs more than one that copies, of 64 KiB and more.
#
# The documents' figures are throughput, or times, of other hardware: they are printed beside,
# and nothing is held to them.

BEGIN {
	tcp = split("send msgzc user plain dmabuf dmabuf1", by_tcp, " ")
	rds = split("send msgzc user plain dmabuf dmabuf1", by_rds, " ")
	label["send"] = "send(), copies"
	label["msgzc"] = "send(), MSG_ZEROCOPY"
	label["user"] = "SEND_ZC"
	label["plain"] = "SEND_ZC, registered memory"
	label["dmabuf"] = "SEND_ZC, dma-buf"
	label["dmabuf1"] = "SEND_ZC, dma-buf, one CQE"
	label_rds["send"] = "sendmsg(), copies"
	label_rds["msgzc"] = "sendmsg(), cookies"
}

/"what":"(insns|events)"/ {
	verified += number($0, "verified_bytes")
	wrong += number($0, "wrong_bytes")
	again += number($0, "again")
	is_rds = number($0, "rds")
	k = text($0, "kind") SUBSEP number($0, "size")
}

/"what":"insns"/ {
	requests = number($0, "windows") * number($0, "count")
	value["calls", k] = number($0, "calls") / requests
	count[number($0, "size")] = number($0, "count")
	depth[number($0, "size")] = number($0, "depth")
}

/"what":"path"/ {
	size = number($0, "size")
	know(size)
	k = text($0, "kind") SUBSEP size
	per = is_rds ? 1 : 1048576 / size
	value["insns", k] = number($0, "path") * per
	value["low", k] = (number($0, "lowest") / number($0, "path") - 1) * 100
	value["high", k] = (number($0, "highest") / number($0, "path") - 1) * 100
	windows = number($0, "windows")
	card = text($0, "device")
	iommu = text($0, "iommu")
}

/"what":"events"/ {
	count_payload($0, number($0, "sends") * (is_rds ? 1 : number($0, "size") / 1048576))
}

function name_of(k) { return is_rds && (k in label_rds) ? label_rds[k] : label[k] }

function row(k, size)
{
	if (!has(k, size))
		return
	printf "  %-30s %10s %6.3f %+6.1f..%+.1f %% %9.2f %10s %7s %7s\n", name_of(k),
		entry("insns", k, size), ratio(k, "send", size), value["low", k, size],
		value["high", k, size], value["calls", k, size], entry("copied", k, size),
		entry("maps", k, size), entry("flush", k, size)
}

function table(size,	i)
{
	printf "\n%-32s %10s %6s %15s %9s %10s %7s %7s\n",
		(is_rds ? "messages of " : "requests of ") human(size), "guest", "of", "windows are",
		"calls per", "bytes", "maps +", "IOTLB"
	printf "%-32s %10s %6s %15s %9s %10s %7s %7s\n",
		"(" count[size] " in a window, " depth[size] " at once)", "insns", "send", "within",
		is_rds ? "message" : "request", "copied", "unmaps", "inval."
	for (i = 1; i <= n; i++)
		row(kind[i], size)
}

function anchor(size, a, b, figure)
{
	if (ratio(a, b, size))
		printf "  %-8s %-52s %6.2f   (%s)\n", human(size),
			name_of(a) " : " name_of(b), ratio(a, b, size), figure
}

# Of the calls that send and those that wait
function completions(size,	i, line)
{
	for (i = 2; i <= n; i++)
		if (has(kind[i], size))
			line = line sprintf("%s%s %.2f", line ? ", " : "", name_of(kind[i]),
					    1 / value["calls", kind[i], size])
	printf "  %-8s %s\n", human(size), line
}

function anchors(	i)
{
	print "\nhow many times as many instructions (in brackets the documents' figure, of other hardware):"
	for (i = 1; i <= sizes; i++) {
		if (is_rds) {
			anchor(order[i], "send", "msgzc", "200 us to 90 us: 2.2")
			anchor(order[i], "send", "plain", "200 us to 90 us: 2.2")
			anchor(order[i], "send", "dmabuf1", "200 us to 90 us: 2.2")
			continue
		}
		anchor(order[i], "user", "plain", "throughput, 1.53")
		anchor(order[i], "msgzc", "user", "throughput, 1.88 to 2.44")
		anchor(order[i], "msgzc", "plain", "throughput, 1.88 to 2.44")
		anchor(order[i], "send", "dmabuf", "-")
	}
}

function proportion(size,	i, k, names, line)
{
	for (i = n; i >= 1; i--) {
		k = kind[i]
		if (!has(k, size))
			continue
		names = names (names ? " : " : "") name_of(k)
		line = line (line ? " : " : "") sprintf("%.2f", ratio(k, "send", size))
	}
	printf "  %-8s %s\n", human(size), line
	return names
}

function cheaper(k,	i, r, line, good, some)
{
	good = 1
	for (i = 1; i <= sizes; i++) {
		r = ratio(k, "send", order[i])
		if (order[i] < 65536 || !r)
			continue
		some = 1
		good = good && r < 1
		line = line sprintf(" %s %.3f", human(order[i]), r)
	}
	if (some)
		verdict(good, sprintf("%s: less than a copy, without the copying:%s", name_of(k), line))
}

END {
	if (!sizes || iommu != "strict") {
		print "ways: nothing was measured under a strict IOMMU" > "/dev/stderr"
		exit 1
	}
	n = is_rds ? rds : tcp
	for (i = 1; i <= n; i++)
		kind[i] = is_rds ? by_rds[i] : by_tcp[i]
	printf "%s%s, IOMMU %s; per %s, on the sender: instructions of the path, copying left out\n",
		card, is_rds ? ", RDS over TCP" : "", iommu, is_rds ? "message" : "MiB"
	printf "(median of %d windows), system calls, DMA maps and invalidations of the payload\n", windows
	for (i = 1; i <= sizes; i++)
		table(order[i])
	print ""
	for (i = 1; i <= sizes; i++)
		names = proportion(order[i])
	printf "           = %s\n", names
	anchors()
	if (is_rds) {
		print "\ncompletions per system call:"
		for (i = 1; i <= sizes; i++)
			completions(order[i])
	}
	print ""
	verdict(verified > 0 && !wrong, sprintf("%.0f bytes received, all compared: %d wrong", verified, wrong))
	verdict(!again, "every window was sent once")
	cheaper("plain")
	cheaper("dmabuf")
	cheaper("dmabuf1")
	exit failed
}
