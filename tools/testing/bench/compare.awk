# SPDX-License-Identifier: GPL-2.0
# awk -v limit=PERCENT [-v last=1] -f compare.awk WINDOWS: the same cases on two kernels, each in
# several boots. WINDOWS: the lines of all_windows (lib.sh). Exit 1 when ours needs more than
# PERCENT more or less, 3 when more boots have to tell; with last=1 there are none.
#
# How many interrupts complete a window's I/O, how often the program sleeps until then and how
# many packets there are depends on the host's time, and each costs a few hundred instructions
# that no list of functions tells from the path. all_windows was told to count what is of that
# kind: what one of each costs is the slope of a linear regression over the windows of both
# kernels, each less the mean of its boot, and the instructions of a window are those it would
# have with what all windows have on average. What does not fit (four times as far from it as the
# middle one) does not take part in the regression. A slope says nothing of what one kernel alone
# does: at least half of the windows of each must lie between the least and the most of the other.
#
# Boots differ by more than the windows of one do, and many windows say nothing about that. So
# the median of each boot's windows is compared with that of each boot of the other kernel; and
# the median of all of these is the difference of the kernels (as Hodges and Lehmann estimate it).
# It is clear when its 95 % interval, by the ranks of Mann and Whitney, is on one side of the
# limit.

{
	name = $1
	if (!(name in iommu)) {
		iommu[name] = $2
		order[++n] = name
	}
	w = ++windows[name]
	kernel[name, w] = $3
	boot[name, w] = $4
	instructions[name, w] = $6
	counts = split($5, count, "/")
	for (i = 1; i <= counts; i++)
		work[name, w, i] = count[i]
	if ($4 > boots)
		boots = $4
}

function put(list, x)
{
	value[list, ++length_of[list]] = x
	delete middle[list]
}

function clear(list)
{
	length_of[list] = 0
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

# Solves matrix * slope = right for all counts; what does not vary by itself has slope 0.
function solve(	i, j, k, best, x, rank, left)
{
	for (i = 1; i <= counts; i++) {
		slope[i] = 0
		left[i] = 1
		diagonal[i] = matrix[i, i]
	}
	for (rank = 1; rank <= counts; rank++) {
		best = 0
		for (i = 1; i <= counts; i++)
			if (left[i] && matrix[i, i] > 1e-6 * diagonal[i] &&
			    (!best || matrix[i, i] / diagonal[i] > matrix[best, best] / diagonal[best]))
				best = i
		if (!best)
			break
		left[best] = 0
		pivot[rank] = best
		for (i = 1; i <= counts; i++) {
			if (!left[i])
				continue
			x = matrix[i, best] / matrix[best, best]
			for (k = 1; k <= counts; k++)
				matrix[i, k] -= x * matrix[best, k]
			right[i] -= x * right[best]
		}
	}
	while (--rank >= 1) {
		i = pivot[rank]
		x = right[i]
		for (j = 1; j <= counts; j++)
			if (j != i)
				x -= matrix[i, j] * slope[j]
		slope[i] = x / matrix[i, i]
	}
}

# Less the mean of its boot: count @i of window @w, and with @i = 0 its instructions
function centred(name, w, i,	b)
{
	b = kernel[name, w] SUBSEP boot[name, w]
	return (i ? work[name, w, i] : instructions[name, w]) - sum[b, i] / members[b]
}

# The slopes, by the windows that are not outside
function regression(name,	w, i, j, b)
{
	split("", sum)
	split("", members)
	split("", matrix)
	split("", right)
	for (w = 1; w <= windows[name]; w++) {
		if (outside[w])
			continue
		b = kernel[name, w] SUBSEP boot[name, w]
		members[b]++
		sum[b, 0] += instructions[name, w]
		for (i = 1; i <= counts; i++)
			sum[b, i] += work[name, w, i]
	}
	for (w = 1; w <= windows[name]; w++) {
		if (outside[w])
			continue
		for (i = 1; i <= counts; i++) {
			for (j = 1; j <= counts; j++)
				matrix[i, j] += centred(name, w, i) * centred(name, w, j)
			right[i] += centred(name, w, i) * centred(name, w, 0)
		}
	}
	solve()
}

# How far a window is from what the slopes make of its counts
function distance(name, w,	i, x)
{
	x = centred(name, w, 0)
	for (i = 1; i <= counts; i++)
		x -= slope[i] * centred(name, w, i)
	return x < 0 ? -x : x
}

# The instructions of all windows with the same work, to lists by kernel and by kernel and boot
function adjust(name,	pass, w, i, x, list, far)
{
	split("", outside)
	for (pass = 1; pass <= 3; pass++) {
		regression(name)
		list = "distances"
		clear(list)
		for (w = 1; w <= windows[name]; w++)
			if (members[kernel[name, w], boot[name, w]])
				put(list, distance(name, w))
		far = 4 * median(list)
		for (w = 1; w <= windows[name]; w++)
			outside[w] = !members[kernel[name, w], boot[name, w]] ||
				(far && distance(name, w) > far)
	}
	for (i = 1; i <= counts; i++) {
		mean[i] = 0
		for (w = 1; w <= windows[name]; w++)
			mean[i] += work[name, w, i] / windows[name]
	}
	for (w = 1; w <= windows[name]; w++) {
		x = instructions[name, w]
		for (i = 1; i <= counts; i++)
			x -= slope[i] * (work[name, w, i] - mean[i])
		put(kernel[name, w] SUBSEP name, x)
		put(kernel[name, w] SUBSEP name SUBSEP boot[name, w], x)
	}
}

# How many windows of @name in @ours do no more and no less than those of @other do
function within(name, ours, other,	w, i, least, most, good, found)
{
	for (w = 1; w <= windows[name]; w++) {
		if (kernel[name, w] != other)
			continue
		for (i = 1; i <= counts; i++) {
			if (!(i in least) || work[name, w, i] < least[i])
				least[i] = work[name, w, i]
			if (!(i in most) || work[name, w, i] > most[i])
				most[i] = work[name, w, i]
		}
	}
	for (w = 1; w <= windows[name]; w++) {
		if (kernel[name, w] != ours)
			continue
		good = 1
		for (i = 1; i <= counts; i++)
			good = good && (i in least) && work[name, w, i] >= least[i] && work[name, w, i] <= most[i]
		found += good
	}
	return found + 0
}

# Of all boots; and sets low and high, between which it is with 95 % certainty
function change(name,	a, b, all, stock, ours, m, rank)
{
	all = "all" SUBSEP name
	for (a = 1; a <= boots; a++) {
		stock = "stock" SUBSEP name SUBSEP a
		for (b = 1; b <= boots; b++) {
			ours = "plain" SUBSEP name SUBSEP b
			if (length_of[stock] && length_of[ours])
				put(all, (median(ours) / median(stock) - 1) * 100)
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

function verdict(name,	d, good, stock, ours)
{
	adjust(name)
	stock = within(name, "stock", "plain")
	ours = within(name, "plain", "stock")
	d = change(name)
	if (d == "") {
		printf "FAIL  %s: %d boots tell nothing\n", name, boots
		unclear = failed = 1
		return
	}
	if (stock * 2 < length_of["stock", name] || ours * 2 < length_of["plain", name]) {
		printf "FAIL  %s: %d of %d windows of stock and %d of %d of ours do as much as the other kernel's\n",
			name, stock, length_of["stock", name], ours, length_of["plain", name]
		unclear = failed = 1
		return
	}
	good = d <= limit && d >= -limit
	if (good ? high > limit || low < -limit : low <= limit && high >= -limit)
		unclear = 1
	printf "%s  %-16s IOMMU %-7s", good ? "ok  " : "FAIL", name, iommu[name]
	show("stock", "stock" SUBSEP name)
	show("patched", "plain" SUBSEP name)
	printf " %+.2f %% (%+.2f..%+.2f) in %d boots each\n", d, low, high, boots
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
