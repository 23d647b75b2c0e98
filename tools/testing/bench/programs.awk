# SPDX-License-Identifier: GPL-2.0
# Guest instructions per MiB of whole programs, in user space and in the kernel.
#
#   awk -v beside=NAME -v ours=NAME -f programs.awk path.list OUTPUT fninsn.out
#
# OUTPUT is that of programs-guest: a line for each window. What is idle, or traces, does not
# count. Each program has run with a small and a large file: the difference is what a MiB costs.
# Exit 1 if @ours is not less than @beside.

FNR == 1 { file++ }

file == 1 && NF >= 2 && ($1 == "idle" || $1 == "trace" || $1 == "marker") { rule[++rules] = "^(" $2 ")$" }

file == 2 && $1 == "window" {
	name[++nr] = $2
	mib[nr] = $3
}

function counts(f,	i)
{
	while (sub(/\.(isra|constprop|part|cold)(\.[0-9]+)?$/, "", f))
		;
	for (i = 1; i <= rules; i++)
		if (f ~ rule[i])
			return 0
	return 1
}

file == 3 && $1 == "W" {
	sum[$2] += $3 + $4 + $5
	user[$2] = $5
	seen++
}

file == 3 && $1 == "F" {
	if (!($3 in is_path))
		is_path[$3] = counts($3)
	if (!is_path[$3])
		sum[$2] -= $4
}

file == 3 && $1 == "E" { closed = $2; open = $3 }

END {
	if (!nr || seen != nr || closed != nr || open) {
		printf "programs.awk: %d windows of %d programs\n", seen, nr > "/dev/stderr"
		exit 1
	}
	printf "  %-26s %12s %12s %8s\n", "", "per MiB", "user space", "ratio"
	for (i = 1; i <= nr; i++) {
		if (!(name[i] in least)) {
			least[name[i]] = i
			order[++n] = name[i]
			continue
		}
		k = least[name[i]]
		per[name[i]] = (sum[i] - sum[k]) / (mib[i] - mib[k])
		in_user[name[i]] = (user[i] - user[k]) / (mib[i] - mib[k])
	}
	for (i = 1; i <= n; i++)
		printf "  %-26s %12.0f %12.0f %8.3f\n", order[i], per[order[i]], in_user[order[i]],
			per[order[i]] / per[beside]
	exit !(per[ours] > 0 && per[ours] < per[beside])
}
