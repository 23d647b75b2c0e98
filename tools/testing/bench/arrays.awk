# SPDX-License-Identifier: GPL-2.0
# awk -f json.awk -f table.awk -f arrays.awk RUN.json...: reads and writes of an array of four
# drives, a dma-buf beside ordinary memory on the same array. Exit 1 when a byte is wrong or
# copied, when a DMA map is made for a dma-buf, when one drive has more commands than another,
# or when 128 KiB of a dma-buf cost more than 0.35 of ordinary memory with chunks of 512 KiB,
# 0.45 with those of 64 KiB.

function row(chunk, size, dir) { return chunk SUBSEP size SUBSEP dir }

/"what":"path"/ {
	k = row(number($0, "chunk"), number($0, "size"), text($0, "direction"))
	if (!(k in seen))
		order[++rows] = k
	seen[k] = 1
	insns[text($0, "kind"), k] = number($0, "path")
}

/"what":"(insns|events)"/ {
	verified += number($0, "verified_bytes")
	wrong += number($0, "wrong_bytes")
}

/"what":"events"/ {
	k = text($0, "kind") SUBSEP row(number($0, "chunk"), number($0, "size"), text($0, "direction"))
	ios = number($0, "ios")
	commands[k] = number($0, "commands") / ios
	least[k] = number($0, "commands_least")
	most[k] = number($0, "commands_most")
	if (text($0, "kind") != "dmabuf")
		next
	all += ios
	maps += number($0, "dma_map") + number($0, "dma_unmap")
	if (!index($0, "\"copy_bytes\":"))
		unknown = 1
	copied += number($0, "copy_bytes")
	if (most[k] != least[k])
		uneven++
}

function limit(chunk, size)
{
	return size != 131072 ? 0 : chunk == 524288 ? 0.35 : chunk == 65536 ? 0.45 : 0
}

function check(x, most)
{
	if (!most)
		return sprintf("%.3f", x)
	if (x > most)
		failed = 1
	return sprintf("%.3f (at most %.2f)%s", x, most, x > most ? " FAIL" : "")
}

END {
	printf "%9s %9s %-6s %12s %12s %9s %9s   %s\n", "", "", "", "plain", "dma-buf", "commands", "commands", "of plain"
	printf "%9s %9s %-6s %12s %12s %9s %9s\n", "chunk", "size", "", "", "", "plain", "dma-buf"
	for (i = 1; i <= rows; i++) {
		k = order[i]
		split(k, part, SUBSEP)
		a = insns["plain", k]
		b = insns["dmabuf", k]
		if (!a || !b) {
			print "arrays: a measurement is missing" > "/dev/stderr"
			exit 1
		}
		printf "%9s %9s %-6s %12.0f %12.0f %9.2f %9.2f   %s\n", human(part[1]), human(part[2]),
			part[3], a, b, commands["plain", k], commands["dmabuf", k],
			check(b / a, limit(part[1], part[2]))
	}
	verdict(all && !maps, sprintf("%d DMA maps and unmaps for %d reads and writes of dma-bufs", maps, all))
	verdict(!unknown && !copied, sprintf("%s bytes copied by the CPU", unknown ? "an unknown number of" : copied + 0))
	verdict(all && !uneven, sprintf("each drive has had as many commands as the others: %s",
		uneven ? "not in " uneven " cases" : "in all cases"))
	verdict(verified && !wrong, sprintf("%.0f bytes moved, all compared: %d wrong", verified, wrong))
	exit failed || !rows
}
