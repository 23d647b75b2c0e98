# SPDX-License-Identifier: GPL-2.0
# Guest instructions per I/O, by class or by function.
#
#   awk -v mode=sum|functions|windows -f json.awk -f insns.awk path.list RUN.json fninsn.out
#
# path.list says what is the path; RUN.json is what regbuf-bench printed and
# says which windows belong to which case; fninsn.out is the plugin's table.
#
# mode=sum: a JSON object per case: the median over its windows of the
#   instructions per I/O, "path" and each other class, and the lowest and
#   highest window of "path".
# mode=functions: "CASE CLASS FUNCTION INSNS CALLS" per line, medians per I/O.
# mode=windows, work="FUNCTION...", boot=N: "CASE IOMMU KERNEL N WORK PATH" per window: how
#   often each of the functions was called, with a slash between them, and instructions of
#   "path" per I/O.

function plain_name(name)
{
	while (sub(/\.(isra|constprop|part|cold)(\.[0-9]+)?$/, "", name))
		;
	return name
}

function class_of(name,		i)
{
	name = plain_name(name)
	if (name in class)
		return class[name]
	class[name] = "path"
	for (i = 1; i <= rules; i++) {
		if (name ~ rule[i]) {
			class[name] = rule_class[i]
			break
		}
	}
	return class[name]
}

# Median of v[1..n], which it sorts.
function median(v, n,	i, j, x)
{
	for (i = 2; i <= n; i++) {
		x = v[i]
		for (j = i - 1; j >= 1 && v[j] > x; j--)
			v[j + 1] = v[j]
		v[j + 1] = x
	}
	return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
}

function fail(why)
{
	print "insns.awk: " why > "/dev/stderr"
	failed = 1
	exit 1
}

BEGIN { works = split(work, work_name, " ") }

FNR == 1 { file++ }

file == 1 && NF >= 2 && !/^#/ {
	rules++
	rule_class[rules] = $1
	classes[$1] = 1
	rule[rules] = "^(" $2 ")$"
	next
}

file == 2 && /"what":"insns"/ {
	cases++
	name[cases] = text($0, "case")
	head[cases] = $0
	count[cases] = number($0, "count")
	first[cases] = number($0, "first_window")
	windows[cases] = number($0, "windows")
	for (w = 0; w < windows[cases]; w++)
		case_of[first[cases] + w] = cases
	next
}

file == 3 && $1 == "W" { total[$2] = $3; seen = $2 }

file == 3 && $1 == "F" && ($2 in case_of) && works { done[$2, $3] += $5 }

file == 3 && $1 == "F" && ($2 in case_of) {
	c = class_of($3)
	sum[$2, c] += $4
	if (mode == "functions") {
		f = plain_name($3)
		insns[$2, f] += $4
		calls[$2, f] += $5
		key[case_of[$2], f] = c
	}
}

function print_sum(i,	c, w, n, v, line)
{
	line = head[i]
	sub(/"what":"insns"/, "\"what\":\"path\"", line)
	sub(/,"verified_bytes".*/, "", line)
	classes["path"] = 1
	for (c in classes) {
		for (w = 0; w < windows[i]; w++)
			v[w + 1] = sum[first[i] + w, c] / count[i]
		line = line sprintf(",\"%s\":%.1f", c, median(v, windows[i]))
		if (c == "path")
			line = line sprintf(",\"lowest\":%.1f,\"highest\":%.1f", v[1], v[windows[i]])
	}
	print line "}"
}

function print_functions(i,	k, part, w, v, u)
{
	for (k in key) {
		split(k, part, SUBSEP)
		if (part[1] != i)
			continue
		for (w = 0; w < windows[i]; w++) {
			v[w + 1] = insns[first[i] + w, part[2]] / count[i]
			u[w + 1] = calls[first[i] + w, part[2]] / count[i]
		}
		printf "%s %s %s %.1f %.2f\n", name[i], key[k], part[2], \
			median(v, windows[i]), median(u, windows[i])
	}
}

function print_windows(i,	w, j, alike)
{
	for (w = first[i]; w < first[i] + windows[i]; w++) {
		alike = ""
		for (j = 1; j <= works; j++)
			alike = alike (j > 1 ? "/" : "") done[w, work_name[j]] + 0
		printf "%s %s %s %d %s %.2f\n", name[i], text(head[i], "iommu"), \
			text(head[i], "kernel"), boot, alike, sum[w, "path"] / count[i]
	}
}

END {
	if (failed)
		exit 1
	if (!cases)
		fail("no case with windows: did regbuf-bench run with -i?")
	if (seen < first[cases] + windows[cases] - 1)
		fail("the table has " seen + 0 " windows, fewer than the program opened: " \
		     "nokaslr on the command line, and the System.map of this kernel?")
	for (i = 1; i <= cases; i++) {
		if (mode == "functions")
			print_functions(i)
		else if (mode == "windows")
			print_windows(i)
		else
			print_sum(i)
	}
}
