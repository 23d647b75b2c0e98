# SPDX-License-Identifier: GPL-2.0
# The report that `make demo` prints, and the verdict on it.
#
#   awk -f json.awk -f table.awk -f report.awk RUN.json...
#
# Reads what regbuf-bench and insns.awk printed for boots of one kernel under
# a strict IOMMU and with none.  Exit status 1 when a byte is wrong or a figure
# is not what it must be, each said in a line that starts with "FAIL".

function key(iommu, kind, size, dir) { return iommu SUBSEP kind SUBSEP size SUBSEP dir }

function line_key(line)
{
	return key(text(line, "iommu"), text(line, "kind"), number(line, "size"),
		   text(line, "direction"))
}

# Whole numbers as they are, others with two digits.
function short(x) { return x == int(x) ? sprintf("%d", x) : sprintf("%.2f", x) }

/"what":"(insns|events)"/ {
	verified += number($0, "verified_bytes")
	wrong += number($0, "wrong_bytes")
}

# Of the buffers of one kind, the largest.
/"what":"map"/ {
	k = text($0, "kind")
	if (text($0, "iommu") == "strict" && (!(k in map) || number($0, "bytes") > number(map[k], "bytes")))
		map[k] = $0
	next
}

/"what":"events"/ {
	k = line_key($0)
	ios = number($0, "ios")
	counted[k] = 1
	value["maps", k] = (number($0, "dma_map") + number($0, "dma_unmap")) / ios
	value["pages", k] = (number($0, "iommu_map") + number($0, "iommu_unmap")) / ios
	value["flush", k] = number($0, "flush") / ios
	value["commands", k] = number($0, "commands") / ios
	value["largest", k] = number($0, "command_max")
	drive_largest = number($0, "drive_largest")
	if (index($0, "\"copy_bytes\":"))
		value["copied", k] = number($0, "copy_bytes") / ios
	next
}

/"what":"path"/ {
	k = line_key($0)
	value["insns", k] = number($0, "path")
	measured[k] = 1
	windows = number($0, "windows")
	next
}

function cell(what, k)
{
	if (!((what, k) in value))
		return "-"
	if (what == "insns")
		return sprintf("%d", value[what, k] + 0.5)
	return short(value[what, k])
}

function row(label, what, size, dir,	i)
{
	printf "  %-30s", label
	for (i = 1; i <= columns; i++)
		printf " %14s", cell(what, key(column_iommu[i], column_kind[i], size, dir))
	printf "\n"
}

function column(iommu, kind, head1, head2)
{
	columns++
	column_iommu[columns] = iommu
	column_kind[columns] = kind
	head[1, columns] = head1
	head[2, columns] = head2
}

function print_map(kind, what,		m, entries)
{
	if (!(kind in map))
		return
	m = map[kind]
	entries = number(m, "entries") == 1 ? "granule" : "granules"
	# fewer entries than granules: they are ranges, which end at granules
	if (number(m, "entries") * number(m, "granule") < number(m, "bytes"))
		entries = "ranges, in units"
	printf "registered  %s, %s\n", what, human(number(m, "bytes"))
	printf "       for  %s (%s), largest command %s\n", text(m, "target"), text(m, "device"),
		human(number(m, "drive_largest"))
	printf "   mapping  %s; %d %s of %s, table of %d bytes; IOMMU %s\n\n", text(m, "state"),
		number(m, "entries"), entries, human(number(m, "granule")), number(m, "table_bytes"), text(m, "iommu")
}

function print_table(size, dir,	i, n)
{
	printf "%-32s", human(size) " " dir
	for (i = 1; i <= columns; i++)
		printf " %14s", head[1, i]
	printf "\n%-32s", ""
	for (i = 1; i <= columns; i++)
		printf " %14s", head[2, i]
	printf "\n"
	row("DMA maps + unmaps", "maps", size, dir)
	row("IOTLB invalidations", "flush", size, dir)
	row("NVMe commands", "commands", size, dir)
	row("bytes copied by the CPU", "copied", size, dir)
	row("guest instructions, path", "insns", size, dir)
	printf "\n"
}

function check_zero(what, label, kind,	k, part, n, bad)
{
	for (k in counted) {
		split(k, part, SUBSEP)
		if (part[1] != "strict" || part[2] != kind)
			continue
		n++
		if (!((what, k) in value) || value[what, k] != 0)
			bad++
	}
	verdict(n && !bad, sprintf("%s: 0 %s per I/O (%d cases)", kind_name[kind], label, n))
}

function check_ratio(size, iommu, limit,	a, b)
{
	a = key("strict", "dmabuf", size, "read")
	b = key(iommu, "plain", size, "read")
	if (!(a in measured) || !(b in measured) || !value["insns", b]) {
		verdict(0, human(size) ": instructions were not counted")
		return
	}
	verdict(value["insns", a] <= limit * value["insns", b],
		sprintf("%s: %.3fx of the instructions of a plain buffer with %s (at most %.3f)",
			human(size), value["insns", a] / value["insns", b],
			iommu == "off" ? "no IOMMU" : "a strict IOMMU", limit))
}

# A dma-buf takes as few commands as the drive allows: each but the last is its largest.
function check_commands(size,		k, p, few, largest)
{
	k = key("strict", "dmabuf", size, "read")
	p = key("strict", "plain", size, "read")
	largest = drive_largest < size ? drive_largest : size
	few = largest ? int((size + largest - 1) / largest) : 0
	verdict(few && value["commands", k] == few && value["largest", k] == largest &&
		value["commands", p] > few,
		sprintf("%s: %s NVMe %s of %s; the drive takes %s in one (plain: %s commands)", human(size),
			cell("commands", k), few == 1 ? "command" : "commands",
			human(value["largest", k]), human(drive_largest), cell("commands", p)))
}

function check(		k)
{
	kind_name["dmabuf"] = "dma-buf, strict IOMMU"
	kind_name["bar"] = "PCI BAR, strict IOMMU"
	verdict(verified > 0 && !wrong,
		sprintf("%.0f bytes read and written, all compared, poisoned before: %d wrong",
			verified, wrong))
	check_zero("maps", "DMA maps and unmaps", "dmabuf")
	check_zero("maps", "DMA maps and unmaps", "bar")
	check_zero("flush", "IOTLB invalidations", "dmabuf")
	check_zero("flush", "IOTLB invalidations", "bar")
	check_zero("copied", "bytes copied by the CPU", "dmabuf")
	check_zero("copied", "bytes copied by the CPU", "bar")
	check_commands(8388608)
	k = key("strict", "buffered", 131072, "read")
	if (k in counted)
		verdict(value["copied", k] == 131072,
			sprintf("the copy counter sees a buffered 128 KiB read copy %s bytes",
				cell("copied", k)))
	k = key("strict", "plain", 4096, "read")
	verdict(value["maps", k] > 0 && value["flush", k] > 0,
		"the map and invalidation counters see a plain registered buffer")
	check_ratio(4096, "strict", 0.555)
	check_ratio(131072, "strict", 0.555)
	check_ratio(4096, "off", 0.93)
	check_ratio(131072, "off", 0.93)
}

END {
	column("off", "plain", "plain", "no IOMMU")
	column("strict", "plain", "plain", "strict IOMMU")
	column("strict", "dmabuf", "dma-buf", "strict IOMMU")
	column("strict", "bar", "PCI BAR (P2P)", "strict IOMMU")
	print_map("dmabuf", "udmabuf (memfd pages as a dma-buf)")
	print_map("bar", "PCI BAR memory as a dma-buf")
	printf "Per I/O, counted (instructions: median of %d windows):\n\n", windows
	print_table(4096, "read")
	print_table(131072, "read")
	print_table(8388608, "read")
	k = key("off", "nop", 4096, "read")
	if (k in measured)
		printf "(An io_uring no-op, counted the same way: %s instructions, %s NVMe commands.)\n\n",
			cell("insns", k), cell("commands", k)
	check()
	exit failed
}
