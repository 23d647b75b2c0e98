# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Sourced by what downloads packages: apt with a state of its own below build/cache. The
# machine's sources, lists and keys are read and never changed.

cache=$BUILD/cache

# private_apt NAME COMMAND...: with the sources that apt_update has given that name.
private_apt() {
	local name=$1

	shift
	"$@" -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$cache/apt/$name.d" \
		-o Dir::State::lists="$cache/apt/lists-$name" -o Dir::Cache="$cache/apt/cache-$name" \
		-o APT::Sandbox::User=root -o APT::Architecture=amd64 -o Acquire::Languages=none \
		-o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false
}

# apt_update NAME SUITE TYPE: a suite of the machine's own mirrors; deb, or deb-src.
apt_update() {
	local d=$cache/apt

	mkdir -p "$d/$1.d" "$d/lists-$1/partial" "$d/cache-$1/archives/partial" "$BUILD/logs"
	"$LAB/apt-mirrors" "$2" | sed "s/^Types: .*/Types: $3/" >"$d/$1.d/lab.sources"
	[ -s "$d/$1.d/lab.sources" ] || die "no Debian mirror in apt's sources on this machine.
${hint:-}"
	note "  looking in $2"
	private_apt "$1" apt-get -q update >"$BUILD/logs/apt-$1.log" 2>&1
}
