# SPDX-License-Identifier: GPL-2.0
# awk -v limit=PERCENT [-v last=1] -f compare.awk WINDOWS: the same cases on two kernels, each in
# several boots. WINDOWS: the lines of all_windows (lib.sh). Exit 1 when ours needs more than
# PERCENT more or less, 3 when more boots have to tell; with last=1 there are none.
#
# How many interrupts complete a window's I/O and how often the program sleeps until then
# depends on the host's time, and each costs a few hundred instructions that no list of
# functions tells from the path. So windows are compared with windows of the other kernel in
# which both happened as often, median with median; and what else all_windows was told to count.
# At least half of the windows must have found another.
#
# Boots differ by more than the windows of one do, and many windows say nothing about that. So
# each boot is compared with each of the other kernel. The difference of two is the median of
# those of their windows, each as often as there are pairs of windows; and the median of all of
# these is the difference of the kernels (as Hodges and Lehmann estimate it). It is clear when
# its 95 % interval, by the ranks of Mann and Whitney, is on one side of the limit.

{
	name = $1
	if (!(name in iommu)) {
		iommu[name] = $2
		order[++n] = name
	}
	work = name SUBSEP $5
	if (!(work in known)) {
		known[work]
		work_of[name, ++works[name]] = work
	}
	if ($4 > boots)
		boots = $4
	put($3 SUBSEP name, $6)
	put($3 SUBSEP work, $6)
	put($3 SUBSEP work SUBSEP $4, $6)
}

function put(list, x)
{
	value[list, ++length_of[list]] = x
	delete middle[list]
}

# Its median, once it is sorted, with the ends beside it.
function median(list,	i, j, x, m)
{
	if (list in middle)
		return middle[list]
	m = length_of[list]
	for (i = 2; i <= m; i++) {
		x = value[list, i]
		for (j = i - 1; j >= 1 && value[list, j] > x; j--)
			value[list, j + 1] = value[list, j]
		value[list, j + 1] = x
	}
	if (m % 2)
		middle[list] = value[list, (m + 1) / 2]
	else
		middle[list] = m ? (value[list, m / 2] + value[list, m / 2 + 1]) / 2 : 0
	return middle[list]
}

function smaller(a, b)
{
	return a < b ? a : b
}

# How many windows of @name have another
function pairs(name,	i, sum)
{
	for (i = 1; i <= works[name]; i++)
		sum += smaller(length_of["stock", work_of[name, i]] + 0, length_of["plain", work_of[name, i]] + 0)
	return sum
}

# Of boot @a of stock and boot @b of ours, in percent: a list
function differences(name, a, b,	i, j, m, stock, ours, list)
{
	list = "boots" SUBSEP name SUBSEP a SUBSEP b
	for (i = 1; i <= works[name]; i++) {
		stock = "stock" SUBSEP work_of[name, i] SUBSEP a
		ours = "plain" SUBSEP work_of[name, i] SUBSEP b
		m = smaller(length_of[stock] + 0, length_of[ours] + 0)
		for (j = 0; j < m; j++)
			put(list, (median(ours) / median(stock) - 1) * 100)
	}
	return list
}

# Of all boots; and sets low and high, between which it is with 95 % certainty
function change(name,	a, b, list, all, m, rank)
{
	all = "all" SUBSEP name
	for (a = 1; a <= boots; a++) {
		for (b = 1; b <= boots; b++) {
			list = differences(name, a, b)
			if (length_of[list])
				put(all, median(list))
		}
	}
	median(all)
	m = length_of[all]
	rank = int(m / 2 - 1.96 * sqrt(m * (2 * boots + 1) / 12))
	low = value[all, rank]
	high = value[all, m + 1 - rank]
	return rank < 1 ? "" : median(all)
}

# Of one kernel, all windows of all boots
function show(title, list)
{
	median(list)
	printf " %s %6.0f (%.0f..%.0f) ", title, median(list), value[list, 1], value[list, length_of[list]]
}

function verdict(name,	d, good, found, all)
{
	all = smaller(length_of["stock", name] + 0, length_of["plain", name] + 0)
	found = pairs(name)
	d = change(name)
	if (found * 2 < all || d == "") {
		printf "FAIL  %s: %d of %d windows have another with as much work\n", name, found, all
		unclear = failed = 1
		return
	}
	good = d <= limit && d >= -limit
	if (good ? high > limit || low < -limit : low <= limit && high >= -limit)
		unclear = 1
	printf "%s  %-16s IOMMU %-7s", good ? "ok  " : "FAIL", name, iommu[name]
	show("stock", "stock" SUBSEP name)
	show("patched", "plain" SUBSEP name)
	printf " %+.2f %% (%+.2f..%+.2f) in %d boots each, %d pairs of %d\n", d, low, high, boots,
		found, all
	if (!good)
		failed = 1
}

END {
	for (i = 1; i <= n; i++)
		verdict(order[i])
	if (unclear && !last)
		exit 3
	exit failed || !n
}
