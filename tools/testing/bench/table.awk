# SPDX-License-Identifier: GPL-2.0
# What the tables have in common; awk -f json.awk -f table.awk -f NAME.awk, see table() in lib.sh.

function human(bytes)
{
	if (bytes >= 1073741824 && bytes % 1073741824 == 0)
		return bytes / 1073741824 " GiB"
	if (bytes >= 1048576 && bytes % 1048576 == 0)
		return bytes / 1048576 " MiB"
	if (bytes >= 1024 && bytes % 1024 == 0)
		return bytes / 1024 " KiB"
	return bytes " B"
}

function verdict(good, line)
{
	printf "%s  %s\n", good ? "ok  " : "FAIL", line
	if (!good)
		failed = 1
}

# ---- sends: value[WHAT, KIND, SIZE] ----

# The sizes, as they come
function know(size)
{
	if (size in known)
		return
	known[size] = 1
	order[++sizes] = size
}

# Of an "events" line, for each of @units
function count_payload(line, units,	k)
{
	k = text(line, "kind") SUBSEP number(line, "size")
	value["maps", k] = (number(line, "payload_map") + number(line, "payload_unmap")) / units
	value["flush", k] = number(line, "payload_flush") / units
	if (index(line, "\"copy_bytes\":"))
		value["copied", k] = number(line, "copy_bytes") / units
}

function has(kind, size) { return ("insns", kind, size) in value }

# Of the instructions of two kinds; 0 if one of them is not there
function ratio(a, b, size)
{
	return has(a, size) && has(b, size) ? value["insns", a, size] / value["insns", b, size] : 0
}

function entry(what, kind, size)
{
	return (what, kind, size) in value ? sprintf("%d", value[what, kind, size] + 0.5) : "-"
}
