# SPDX-License-Identifier: GPL-2.0
# awk -v limit=PERCENT -f json.awk -f compare.awk kernel=stock RUN.json... kernel=ours RUN.json...
# The same cases on two kernels, each in several boots: the median of the boots'
# medians.  Exit 1 when ours needs more than PERCENT more or less.

/"what":"path"/ {
	name = text($0, "case")
	if (!(name in known)) {
		known[name] = 1
		order[++n] = name
	}
	boots[kernel, name]++
	path[kernel, name, boots[kernel, name]] = number($0, "path")
	iommu = text($0, "iommu")
}

function median(kernel, name,	i, j, x, v, m)
{
	m = boots[kernel, name]
	for (i = 1; i <= m; i++) {
		x = path[kernel, name, i]
		for (j = i - 1; j >= 1 && v[j] > x; j--)
			v[j + 1] = v[j]
		v[j + 1] = x
	}
	range = sprintf("%.0f..%.0f", v[1], v[m])
	return m % 2 ? v[(m + 1) / 2] : m ? (v[m / 2] + v[m / 2 + 1]) / 2 : 0
}

END {
	for (i = 1; i <= n; i++) {
		a = median("stock", order[i])
		ra = range
		b = median("ours", order[i])
		if (!a || !b) {
			print "compare: " order[i] " was not measured on both" > "/dev/stderr"
			exit 1
		}
		change = (b / a - 1) * 100
		good = change <= limit && change >= -limit
		printf "%s  %-16s IOMMU %-7s stock %8.0f (%s)   patched %8.0f (%s)   %+.2f %%\n",
			good ? "ok  " : "FAIL", order[i], iommu, a, ra, b, range, change
		if (!good)
			failed = 1
	}
	exit failed || !n
}
