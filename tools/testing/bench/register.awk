# SPDX-License-Identifier: GPL-2.0
# awk -f json.awk -f register.awk RUN.json: what regbuf-register printed, for people.
/"what":"register"/ {
	n++
	# fewer entries than granules: they are ranges, which end at granules
	ranges = number($0, "entries") * number($0, "granule") < number($0, "mib") * 1048576
	printf "  IOMMU %-7s %d MiB for %s: %.1f ms; %d %s of %d bytes, table %d bytes\n",
		text($0, "iommu"), number($0, "mib"), text($0, "target"), number($0, "ns") / 1e6,
		number($0, "entries"), ranges ? "ranges, in units" : "granules",
		number($0, "granule"), number($0, "table_bytes")
}
END { exit !n }
