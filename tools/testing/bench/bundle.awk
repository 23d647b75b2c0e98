# SPDX-License-Identifier: GPL-2.0
# awk -f json.awk -f table.awk -f bundle.awk RUN.json: what pieces cost that are sent
# one by one, and as a bundle; exit 1 when a byte is wrong, or a bundle costs more than half.

/"what":"path"/ {
	kind = text($0, "kind")
	insns[kind] = number($0, "path") * 1048576 / number($0, "size")
	pieces = 1048576 / number($0, "size")
	depth = number($0, "depth")
	card = text($0, "device")
}

/"what":"(insns|events)"/ {
	wrong += number($0, "wrong_bytes")
}

function line(kind, label, sqes, cqes)
{
	printf "%-26s %9d %9d %9d %14d %9.3f\n", label, sqes, cqes, pieces / depth, insns[kind],
		insns[kind] / insns["dmabuf"]
}

END {
	printf "%-26s %9s %9s %9s %14s %9s\n", card ", per MiB", "SQEs", "CQEs", "calls",
		"instructions", ""
	line("dmabuf", "SEND_ZC", pieces, 2 * pieces)
	line("bundle", "bundle", pieces / depth, 2 * pieces / depth)
	line("bundle1", "bundle, one completion", pieces / depth, pieces / depth)
	good = insns["dmabuf"] && insns["bundle"] && insns["bundle1"] && !wrong &&
		insns["bundle"] <= insns["dmabuf"] / 2 && insns["bundle1"] <= insns["dmabuf"] / 2
	verdict(good, "a bundle costs at most half, every byte right")
	exit failed
}
