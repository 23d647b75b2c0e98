# SPDX-License-Identifier: GPL-2.0
# The network part of the report that `make demo` prints, and the verdict on it.
#
#   awk -f json.awk -f table.awk -f stream.awk RUN.json
#
# Reads what net-stream and net-store printed.  Exit status 1 when a byte is wrong or a figure is not
# what it must be, each said in a line that starts with "FAIL".

BEGIN {
	kinds = split("gpu bundle storage ordinary store recv", kind, " ")
	label["gpu"] = "GPU-to-network streaming: PCI BAR memory, SEND_ZC by TCP"
	label["bundle"] = "the same as bundles: one SEND_ZC for all provided buffers of a MiB, one completion"
	label["storage"] = "storage-to-network offload: a file on NVMe, READ_FIXED linked to SEND_ZC, one slot"
	label["ordinary"] = "the same file by O_DIRECT read() and send(), for comparison"
	label["store"] = "network-to-storage offload: TCP into PCI BAR memory, from there to NVMe, one slot"
	label["recv"] = "the same by recv() and O_DIRECT write(), for comparison"
	short["gpu"] = "GPU-to-network"
	short["bundle"] = "bundles"
	short["storage"] = "storage-to-network"
	short["ordinary"] = "read() and send()"
	short["store"] = "network-to-storage"
	short["recv"] = "recv() and write()"
}

/"what":"stream"/ {
	k = text($0, "kind")
	seen[k] = 1
	bytes[k] = number($0, "bytes")
	wrong[k] = number($0, "wrong_bytes") + number($0, "wrong_windows")
	maps[k] = number($0, "card_maps") + number($0, "drive_maps")
	copied[k] = index($0, "\"copy_bytes\":") ? number($0, "copy_bytes") : "unknown"
	commands[k] = number($0, "nvme_commands")
	stored[k] = number($0, "nvme_bytes")
	if (index($0, "\"pieces\":"))
		more[k] = sprintf("%d pieces", number($0, "pieces"))
	else
		more[k] = sprintf("%d packets for the card to cut", number($0, "packets"))
	if (index($0, "\"sqes\":")) {
		sqes[k] = number($0, "sqes")
		mib = bytes[k] / 1048576
		more[k] = more[k] sprintf("; per MiB %g SQEs, %g CQEs, %g system calls", sqes[k] / mib,
			number($0, "cqes") / mib, number($0, "calls") / mib)
	}
	device = text($0, "device")
	iommu = text($0, "iommu")
}

function verdicts(k)
{
	verdict(seen[k] && bytes[k] > 0 && !wrong[k],
		sprintf("%s: %.0f bytes, all compared where they arrived: %d wrong", short[k],
			bytes[k], wrong[k]))
	if (k == "ordinary" || k == "recv")
		verdict(copied[k] >= bytes[k] && maps[k] > 0,
			sprintf("the counters see %s copy every byte and map memory", short[k]))
	else
		verdict(seen[k] && copied[k] == "0" && maps[k] == 0,
			sprintf("%s: %s bytes copied by the CPU, %d DMA maps and unmaps of the payload",
				short[k], copied[k], maps[k]))
}

# Pieces of a page come, and go to the drive many at a time: each byte once, in few commands
function check_commands(k,	most)
{
	most = int(bytes[k] / 131072)
	verdict(seen[k] && stored[k] == bytes[k] && commands[k] <= most,
		sprintf("%s: %d NVMe commands of %.0f bytes (at most %d, 1 per 128 KiB)", short[k],
			commands[k], stored[k], most))
}

END {
	printf "By network (%s, IOMMU %s), counted where the card is:\n\n", device, iommu
	for (i = 1; i <= kinds; i++) {
		k = kind[i]
		if (!seen[k])
			continue
		printf "%s\n  %.0f bytes, copies %s, DMA maps %d; %d NVMe commands, %s\n",
			label[k], bytes[k], copied[k], maps[k], commands[k], more[k]
	}
	printf "(Maps: of the payload, by card and drive. A card maps packet headers and its receive ring as ever.)\n\n"
	for (i = 1; i <= kinds; i++)
		verdicts(kind[i])
	check_commands("store")
	verdict(sqes["bundle"] > 0 && sqes["bundle"] < sqes["gpu"],
		"bundles: fewer requests for the same bytes")
	exit failed
}
