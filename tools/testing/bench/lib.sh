# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0
# Sourced by demo and bench: where things are, how to run a measurement.
# The caller has set $here, this directory.
#
# LAB_BUILD  where everything generated is       [build/ of the repository]
# LAB_VM     runs a command of the host in a guest [tools/testing/lab/vm]

top=$(cd "${here:?}/../../.." && pwd)
build=${LAB_BUILD:-$top/build}
vm=${LAB_VM:-$top/tools/testing/lab/vm}
out=$build/bench
me=${0##*/}

# The instruction count needs no more of these: the median settles well before.
: "${WINDOWS:=11}" "${EVENT_WINDOWS:=2}"

say() { printf '%s\n' "$*"; }
progress() { printf '  %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "$me" "$*" >&2; exit 1; }

make_tools() {
	[ -d "$build/headers/include" ] ||
		die "$build/headers/include is not there: the kernel is not built yet (make kernel KERNEL=plain)"
	mkdir -p "$out" "$build/logs"
	make -s -C "$here" OUTPUT="$out" KHDR_INCLUDES="-isystem $build/headers/include" \
		>"$build/logs/bench-tools.log" 2>&1 || {
		cat "$build/logs/bench-tools.log" >&2
		die "the measuring programs do not compile (build/logs/bench-tools.log)"
	}
}

kernel_ready() {
	for file in arch/x86/boot/bzImage System.map; do
		[ -f "$build/kernel/$1/$file" ] ||
			die "$build/kernel/$1/$file is not there: build the $1 kernel first (make kernel KERNEL=$1)"
	done
}

# guest NAME KERNEL IOMMU SECONDS [vm options] -- command...: what it prints goes to
# $out/NAME.txt, and what of that is JSON to $out/NAME.json.  One CPU, if the vm options
# do not say otherwise: the counters are exact, and nothing runs beside the program.
guest() {
	name=$1 kernel=$2 iommu=$3 limit=$4
	shift 4
	kernel_ready "$kernel"
	rm -f "$out/$name.json"
	guest_status=0
	"$vm" -k "$kernel" -i "$iommu" -c 1 -T "$limit" -n "bench-$name" "$@" \
		>"$out/$name.txt" 2>&1 || guest_status=$?
	tr -d '\r' <"$out/$name.txt" | grep '^{"what":' >"$out/$name.json" || :
	if [ "$guest_status" -ne 0 ]; then
		grep -v '^{"what":' "$out/$name.txt" >&2 || :
		die "the $kernel kernel with IOMMU $iommu: exit status $guest_status (see $out/$name.txt, build/logs/bench-$name.log)"
	fi
}

# measure_with PROGRAM LISTS PLUGIN-ARGUMENTS NAME KERNEL IOMMU SECONDS [vm options] --
# argument...: the same with instruction counts of that program; $out/NAME.json gets a
# "path" object per case.  LISTS: what is the path, of two rules the first counts.
measure_with() {
	program=$1 lists=$2 plugin=$3 name=$4 kernel=$5 iommu=$6 limit=$7 options=
	shift 7
	while [ "$1" != -- ]; do
		options="$options $1"
		shift
	done
	shift
	kernel_ready "$kernel"
	# shellcheck disable=SC2086  # words
	guest "$name" "$kernel" "$iommu" "$limit" $options \
		-p "$out/fninsn.so,sym=$build/kernel/$kernel/System.map,out=$out/$name.insns$plugin" \
		-- "$out/$program" "$@"
	for list in $lists; do
		cat "$here/$list"
	done >"$out/$name.list"
	awk -v mode=sum -f "$here/json.awk" -f "$here/insns.awk" \
		"$out/$name.list" "$out/$name.json" "$out/$name.insns" >"$out/$name.path" ||
		die "no instruction counts for $name"
	cat "$out/$name.path" >>"$out/$name.json"
}

# measure NAME KERNEL IOMMU SECONDS [vm options] -- regbuf-bench-argument...
measure() {
	measure_with regbuf-bench path.list '' "$@"
}

# net_measure NAME KERNEL IOMMU SECONDS [vm options] -- net-bench-argument...: two CPUs,
# of which the one that sends is counted.
net_measure() {
	name=$1 kernel=$2 iommu=$3 limit=$4
	shift 4
	measure_with net-bench 'net-path.list path.list' ,cpu=0 \
		"$name" "$kernel" "$iommu" "$limit" -t net -c 2 "$@"
}

# recv_measure NAME KERNEL IOMMU SECONDS [vm options] -- net-recv-argument...: the same, of
# which the one that receives is counted.
recv_measure() {
	name=$1 kernel=$2 iommu=$3 limit=$4
	shift 4
	measure_with net-recv 'net-path.list path.list' ,cpu=0 \
		"$name" "$kernel" "$iommu" "$limit" -t net -c 2 "$@"
}

# general NAME: of that measurement of the network also what path.list alone makes of it,
# "general" objects like the "path" ones.
general() {
	awk -v mode=sum -f "$here/json.awk" -f "$here/insns.awk" \
		"$here/path.list" "$out/$1.json" "$out/$1.insns" >"$out/$1.general" ||
		die "no instruction counts for $1"
	sed 's/"what":"path"/"what":"general"/' "$out/$1.general" >>"$out/$1.json"
}

# table NAME RUN.json...: what NAME.awk makes of them
table() {
	made=$1
	shift
	awk -f "$here/json.awk" -f "$here/table.awk" -f "$here/$made.awk" "$@"
}

# all_functions NAME: every function of every case of that measurement, lines
# `case class function instructions calls`.
all_functions() {
	awk -v mode=functions -f "$here/json.awk" -f "$here/insns.awk" \
		"$out/$1.list" "$out/$1.json" "$out/$1.insns"
}

# all_windows NAME BOOT FUNCTION...: every window of every case of that measurement, lines
# `case IOMMU kernel BOOT calls-of-the-functions instructions`.
all_windows() (
	name=$1 boot=$2
	shift 2
	awk -v mode=windows -v boot="$boot" -v work="$*" -f "$here/json.awk" -f "$here/insns.awk" \
		"$out/$name.list" "$out/$name.json" "$out/$name.insns"
)

# top N NAME: the N most expensive functions of every case of that measurement.
top_functions() {
	all_functions "$2" |
		sort -k1,1 -k4,4nr | awk -v n="$1" '
		$1 != last { printf "\n%s: instructions and calls per I/O, by function\n", $1; last = $1; shown = 0 }
		$2 == "path" && shown++ < n { printf "  %-40s %9.1f %8.2f\n", $3, $4, $5 }'
}
