# SPDX-License-Identifier: GPL-2.0
# Reading flat JSON objects, one per line, as regbuf-bench writes them.

function text(line, key,	n)
{
	n = index(line, "\"" key "\":\"")
	if (!n)
		return ""
	line = substr(line, n + length(key) + 4)
	return substr(line, 1, index(line, "\"") - 1)
}

function number(line, key,	n)
{
	n = index(line, "\"" key "\":")
	return n ? substr(line, n + length(key) + 3) + 0 : 0
}
