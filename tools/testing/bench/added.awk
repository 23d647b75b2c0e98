# SPDX-License-Identifier: GPL-2.0
# awk -v size=4k -v dir=read -v limit=N -f added.awk FUNCTIONS: what the path of an I/O from a
# dma-buf has beside that from a plain registered buffer, by function. FUNCTIONS: the lines of
# all_functions (lib.sh). Exit 1 when what it adds is more than `limit` instructions.

$2 == "path" && $1 == "plain:" size ":" dir { plain[$3] = $4; seen[$3]; cases["plain"] }
$2 == "path" && $1 == "dmabuf:" size ":" dir { dmabuf[$3] = $4; seen[$3]; cases["dmabuf"] }

END {
	if (!("plain" in cases) || !("dmabuf" in cases)) {
		print "added: a measurement is missing" > "/dev/stderr"
		exit 1
	}
	printf "  %-40s %9s %9s %9s\n", "function", "plain", "dma-buf", "more"
	# Below 1: what a refilled slab or a tick makes of the medians.
	for (f in seen) {
		more = dmabuf[f] - plain[f]
		if (more >= 1)
			added += more
		else if (more <= -1)
			saved -= more
		else
			continue
		printf "  %-40s %9.1f %9.1f %9.1f\n", f, plain[f], dmabuf[f], more | "sort -k4,4nr"
	}
	close("sort -k4,4nr")
	failed = added > limit
	printf "%-5s %s %s from a dma-buf: %.0f instructions more (at most %d), %.0f saved\n",
		failed ? "FAIL" : "ok", size, dir, added, limit, saved
	exit failed
}
