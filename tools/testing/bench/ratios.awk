# SPDX-License-Identifier: GPL-2.0
# awk -f json.awk -f ratios.awk RUN.json...: instructions of a dma-buf I/O under a
# strict IOMMU as a multiple of a plain registered buffer's, strict and with none.
# Exit 1 when one of 4 KiB or 128 KiB is above 0.545 or 0.92; for writes above 0.57, as
# these look for pages in the cache first, which takes as much with any buffer.

/"what":"path"/ {
	size = number($0, "size")
	dir = text($0, "direction")
	k = size SUBSEP dir
	if (!(k in seen)) {
		seen[k] = 1
		order[++n] = k
	}
	insns[text($0, "iommu"), text($0, "kind"), k] = number($0, "path")
}

function check(x, limit, size)
{
	if (size > 131072 || x <= limit)
		return sprintf("%.3f     ", x)
	failed = 1
	return sprintf("%.3f FAIL", x)
}

END {
	printf "%8s %-6s %12s %12s %12s   %-12s %-12s\n", "size", "", "plain", "plain", "dma-buf",
		"of plain", "of plain"
	printf "%8s %-6s %12s %12s %12s   %-12s %-12s\n", "", "", "no IOMMU", "strict", "strict",
		"strict<=.545", "none<=.92"
	for (i = 1; i <= n; i++) {
		split(order[i], part, SUBSEP)
		a = insns["off", "plain", order[i]]
		b = insns["strict", "plain", order[i]]
		c = insns["strict", "dmabuf", order[i]]
		if (!a || !b || !c) {
			print "ratios: a measurement is missing" > "/dev/stderr"
			exit 1
		}
		printf "%8d %-6s %12.0f %12.0f %12.0f   %-12s %-12s\n", part[1], part[2], a, b, c,
			check(c / b, part[2] == "read" ? 0.545 : 0.57, part[1] + 0), check(c / a, 0.92, part[1] + 0)
	}
	exit failed || !n
}
