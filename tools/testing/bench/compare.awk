# SPDX-License-Identifier: GPL-2.0
# awk -v limit=PERCENT -f compare.awk kernel=stock WINDOWS... kernel=ours WINDOWS...
# The same cases on two kernels, each in several boots. WINDOWS: the lines of all_windows
# (lib.sh). Exit 1 when ours needs more than PERCENT more or less.
#
# How many interrupts complete a window's I/O and how often the program sleeps until then
# depends on the host's time, and each costs a few hundred instructions that no list of
# functions tells from the path. So windows are compared with windows of the other kernel in
# which both happened as often, median with median. Of these differences the median counts,
# each as often as there are pairs of windows. At least half of the windows must have found
# another.

{
	name = $1
	if (!(name in iommu)) {
		iommu[name] = $2
		order[++n] = name
	}
	alike = $3 SUBSEP $4
	groups[name, alike]
	put(kernel SUBSEP name, $5)
	put(kernel SUBSEP name SUBSEP alike, $5)
}

function put(list, x)
{
	value[list, ++length_of[list]] = x
}

# Of one list; least and most are its ends.
function median(list,	i, j, x, v, m)
{
	m = length_of[list]
	for (i = 1; i <= m; i++) {
		x = value[list, i]
		for (j = i - 1; j >= 1 && v[j] > x; j--)
			v[j + 1] = v[j]
		v[j + 1] = x
	}
	least = v[1]
	most = v[m]
	return m % 2 ? v[(m + 1) / 2] : m ? (v[m / 2] + v[m / 2 + 1]) / 2 : 0
}

function smaller(a, b)
{
	return a < b ? a : b
}

END {
	for (i = 1; i <= n; i++) {
		name = order[i]
		all = smaller(length_of["stock", name], length_of["ours", name])
		pairs = 0
		list = "change" SUBSEP name
		for (g in groups) {
			split(g, part, SUBSEP)
			if (part[1] != name)
				continue
			stock = "stock" SUBSEP g
			ours = "ours" SUBSEP g
			m = smaller(length_of[stock], length_of[ours])
			if (!m)
				continue
			a = median(stock)
			pairs += m
			change = (median(ours) / a - 1) * 100
			for (j = 0; j < m; j++)
				put(list, change)
		}
		if (pairs * 2 < all || !all) {
			printf "compare: %s: %d of %d windows have another with as many interrupts and sleeps\n", \
				name, pairs, all > "/dev/stderr"
			exit 1
		}
		change = median(list)
		good = change <= limit && change >= -limit
		printf "%s  %-16s IOMMU %-7s", good ? "ok  " : "FAIL", name, iommu[name]
		m = median("stock" SUBSEP name)
		printf " stock %6.0f (%.0f..%.0f)", m, least, most
		m = median("ours" SUBSEP name)
		printf "   patched %6.0f (%.0f..%.0f)   %+.2f %% in %d pairs of %d\n", m, least, most, \
			change, pairs, all
		if (!good)
			failed = 1
	}
	exit failed || !n
}
