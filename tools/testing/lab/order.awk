# SPDX-License-Identifier: GPL-2.0
# order.awk STOCK-FILE... mails=1 MAIL...: names that a patch uses and that come with a later one.
# The mails are those of build/series, in the order of patches/series; the stock files are
# those that they touch. Looked at are functions, macros, constants and members that no stock
# file has. It is text that is compared: `make bisect` compiles. Exit 1 if there is one.

# The first patch that a name comes with, and the first that uses it: their places.
function there(name) { if (!(name in comes)) comes[name] = place }
function used(name) { if (!(name in uses)) { uses[name] = place; order[++n] = name } }

# words(LINE): those of stock
function words(line,	i, w, parts) {
	w = split(line, parts, /[^A-Za-z0-9_]+/)
	for (i = 1; i <= w; i++)
		stock[parts[i]] = 1
}

# names(LINE): functions, constants and members in a line of code
function names(line,	name, after, before) {
	while (match(line, /[A-Za-z_][A-Za-z0-9_]*/)) {
		name = substr(line, RSTART, RLENGTH)
		before = substr(line, 1, RSTART - 1)
		line = substr(line, RSTART + RLENGTH)
		after = substr(line, 1, 1)
		if (length(name) < 5)
			continue
		if (after == "(" || name ~ /^[A-Z][A-Z0-9_]+$/ || before ~ /(->|[^.0-9]\.)$/)
			used(name)
	}
}

function code(line,	name) {
	gsub(/"([^"\\]|\\.)*"/, "", line)
	gsub(/\/\*.*\*\//, "", line)
	sub(/\/[\/*].*/, "", line)
	if (line ~ /^[ \t]*\*/)
		return
	if (match(line, /^#[ \t]*define[ \t]+[A-Za-z_0-9]+/)) {
		name = substr(line, 1, RLENGTH)
		sub(/.*[ \t]/, "", name)
		there(name)
		line = substr(line, RLENGTH + 1)
		sub(/^\([^)]*\)/, "", line)
	} else if (line ~ /^[A-Za-z_]/ && match(line, /[A-Za-z_][A-Za-z0-9_]*\(/)) {
		# a function: made in a .c file, or inline
		name = substr(line, RSTART, RLENGTH - 1)
		if (line ~ /^static/)
			inline = line ~ /inline/
		if (file ~ /c$/ || inline || name ~ /^(DEFINE|DECLARE)_/)
			there(name)
		line = substr(line, RSTART + RLENGTH)
	} else if (line ~ /^static.*inline/)
		inline = 1
	else if (match(line, /^\t+[A-Z][A-Z0-9_]+[ \t]*(=|,|$)/)) {
		name = line
		gsub(/^\t+|[ \t]*(=|,).*/, "", name)
		there(name)
		return
	} else if (line ~ /^\t+[a-z_][^()=]*[ \t*][a-z_0-9]+(\[[^]]*\])?([ \t]*:[ \t]*[0-9]+)?;/) {
		name = line
		sub(/[ \t]*:[ \t]*[0-9]+;.*|(\[[^]]*\])?;.*/, "", name)
		sub(/.*[ \t*]/, "", name)
		there(name)
	} else if (match(line, /\(\*[a-z_0-9]+\)\(/))
		there(substr(line, RSTART + 2, RLENGTH - 4))
	if (line ~ /[;{}]$/)
		inline = 0
	names(line)
}

!mails { words($0); next }
FNR == 1 { patch[++place] = FILENAME; sub(/.*series\//, "", patch[place]); ours = inline = 0 }
/^\+\+\+ / {
	file = substr($2, 3)
	ours = file ~ /[.][ch]$/ && file !~ /^tools\//
	next
}
ours && /^\+/ { code(substr($0, 2)) }

END {
	for (i = 1; i <= n; i++) {
		name = order[i]
		if (name in stock || !(name in comes) || comes[name] <= uses[name])
			continue
		printf "%s uses %s, which comes with %s\n", patch[uses[name]], name, patch[comes[name]]
		bad = 1
	}
	exit bad
}
