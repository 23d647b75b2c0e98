# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Sourced by the lab's host-side tools: where things are, how to talk.
# shellcheck disable=SC2034  # the names below are for those who source this

LAB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TOP=$(cd "$LAB/../../.." && pwd)
BUILD=${LAB_BUILD:-$TOP/build}
JOBS=${JOBS:-$(nproc)}

me=${0##*/}

say() { printf '%s\n' "$*"; }
note() { printf "%s\n" "$*" >&2; }
warn() { printf '%s: %s\n' "$me" "$*" >&2; }
die() { warn "$*"; exit 1; }

# One value of kernel.lock.
lock() {
	sed -n "s/^$1=//p" "$TOP/kernel.lock"
}

# Sets cc, the kernel's compiler: with ccache where there is one, whose objects directories
# share. Its depend mode runs no preprocessor for a file that it does not have yet.
use_ccache() {
	export CCACHE_BASEDIR=$BUILD CCACHE_NOHASHDIR=1 CCACHE_DEPEND=1
	cc=gcc
	! command -v ccache >/dev/null || cc='ccache gcc'
}

# table LIST: the lines of a list, as cards.list, for IFS='| ' read.
table() { sed '/^#/d; /^[[:space:]]*$/d' "$LAB/$1"; }

cards() { table cards.list | sed 's/[[:space:]]*|.*//'; }

# The kernel options of their drivers.
devices_config() {
	local option

	{
		while IFS='| ' read -r _ option _; do say "$option"; done < <(table cards.list)
		while IFS='| ' read -r _ _ _ option _; do say "$option"; done < <(table drives.list)
	} | LC_ALL=C sort -u | sed 's/.*/CONFIG_&=y/'
}

# turns N: how long N processors of a guest take this machine at most, in units of what
# as many as it has take: they have to take turns.
turns() { printf '%d' $((($1 + $(nproc) - 1) / $(nproc))); }

# trim VARIABLE...: their white space at the ends goes. No process is started.
trim() {
	local -n text

	for text; do
		text=${text#"${text%%[![:space:]]*}"}
		text=${text%"${text##*[![:space:]]}"}
	done
}

clock() { printf '%d:%02d' $(($1 / 60)) $(($1 % 60)); }

# Numbered patches in order; none yet is fine.
series() {
	local - p g

	set -f
	[ -f "$TOP/patches/series" ] || return 0
	sed 's/#.*//; s/[[:space:]]*$//; /^$/d' "$TOP/patches/series" | while read -r p; do
		for g in ${LAB_WITHOUT:-}; do
			# shellcheck disable=SC2254  # a pattern
			case $p in $g) continue 2 ;; esac
		done
		say "$p"
	done
}

# The folders of patches/, each a series for one tree, in order.
folders() { local - LAB_WITHOUT=''; series | sed 's|/.*||' | uniq; }

# Files of ours that go into the kernel tree as they are: everything below a
# directory the kernel has too, except the lab, the bench and the library.
new_files() {
	local top d

	top=$BUILD/linux-stock
	for d in "$TOP"/*/; do
		d=${d%/} d=${d##*/}
		[ "$d" = build ] && continue
		[ -d "$top/$d" ] || continue
		(cd "$TOP" && find "$d" \( -path tools/testing/lab -o -path tools/testing/bench -o -path tools/uring-dmabuf \) -prune -o \
			-type f ! -name '*~' ! -name '*.orig' ! -name '*.rej' ! -name '*.o' ! -name '.*.sw?' -print)
	done | LC_ALL=C sort
}

# Show how far a long step is: `long-step | progress WHAT PATTERN EXPECTED`
# counts the lines matching PATTERN, of EXPECTED if that is known (0: not).
# A terminal gets one line rewritten every second, a log one line in 20 s.
progress() {
	local what=$1 pattern=$2 expected=$3 count=0 start=$SECONDS last=$SECONDS every=20 eol='\n' line of=

	[ -t 2 ] && every=1 && eol='\r'
	[ "$expected" -gt 0 ] && of=" of $expected"
	while IFS= read -r line; do
		[ "${V:-0}" = 1 ] && printf '%s\n' "$line" >&2
		[[ $line =~ $pattern ]] && count=$((count + 1))
		if [ $((SECONDS - last)) -ge $every ]; then
			last=$SECONDS
			printf "  %s: %d%s, %s$eol" "$what" "$count" "$of" "$(clock $((SECONDS - start)))" >&2
		fi
	done
	[ "$eol" = '\n' ] || printf '\033[K' >&2
	say "  $what: $count, $(clock $((SECONDS - start)))" >&2
}
