# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Sourced by run-tests, after lib.sh and tap.sh: boots, each a guest that runs the tests of one
# group (kernel, IOMMU mode and topology), in a process of its own.
#
# Takes:
#   groups[GROUP]            its tests, lines `name|seconds|allow|command` (run-tests); GROUP is
#                            `kernel iommu topology`, with .1, .2, ... if they are in several boots
#   keys                     the groups in the order of their boots
#   prefix logs shared       name of logs; directories: kernel logs, what is of this run only
#   builder                  empty
#   weight[GROUP]            how long a group may take, for debug_first()
#   turns                    how much longer a guest takes that has to share processors
#   SOAK SEED                of the environment, for the guest
# Sets, in a boot's process, what tap.sh takes and vm_pid, the guest that runs; all but that
# is local to boot(), which the functions below it share.
# collect() adds a boot's results to those of the run, which have the same names.
# shellcheck disable=SC2034,SC2154  # what it sets and takes is used and set there

# What a boot's process leaves to be collected: lists of lines.
lists='failures skips json emulator_faults took boots'

# Faults of the emulator that are known. The tests that are left then get one more boot, and
# the end of the report says so. Any other, or a second one, is a failure: a kernel that
# programs a device wrongly can make an emulator fail, too.
#
# QEMU aborts, with these words, at an NVMe command of more than IOV_MAX scattered pieces,
# where it lets a drive have them (newer ones have a smaller mdts).
known_abort='niov <= IOV_MAX'
# Commands are done but their interrupts do not arrive, of several drives at once, while
# the drives are set up: the driver finds them a minute later. Only before the first test,
# as nothing of what is tested has run then, and only if the log has no other trouble.
known_stall='QID 0 timeout, completion polled'

boots_at_once() {
	local kib

	kib=$(awk '$1 == "MemAvailable:" { print $2 }' /proc/meminfo)
	[ "$(nproc)" -ge 2 ] && [ "$turns" -eq 1 ] && [ "${kib:-0}" -ge $((12 << 20)) ] &&
		echo 2 || echo 1
}

# ---- one guest: the functions share what boot() and run_guest() declare -------------
# take_tests GROUP: its tests that are left, here and as a list for the guest; seconds is
# what all of them may take.
take_tests() {
	local name limit allow command

	seconds=600
	: >"$work/list"
	while IFS='|' read -r name limit allow command; do
		[ -n "$name" ] || continue
		names+=("$name")
		allows[$name]=$allow limits[$name]=$limit seconds=$((seconds + limit))
		printf '%s|%s|%s\n' "$name" "$limit" "$command" >>"$work/list"
	done <<<"${groups[$1]}"
}

# start_vm KERNEL IOMMU TOPOLOGY: its output comes from file descriptor vm_out.
start_vm() {
	# The guest's own limits come first; this one is for a guest that says nothing.
	local limit=$((seconds > 7200 ? seconds : 7200))

	# for a vm that fails before it has made it
	: >"$logs/$logname.log"
	coproc VM {
		exec setsid "$LAB/vm" -L -k "$1" -i "$2" -t "$3" -T "$limit" -n "$logname" \
			-e "LAB=$LAB" -e "TESTS=$BUILD/tests" \
			${SOAK:+-e "SOAK=$SOAK"} ${SEED:+-e "SEED=$SEED"} \
			-- "$LAB/guest-tests" "$work/list" 2>"$work/vm.err"
	}
	# shellcheck disable=SC2153  # coproc sets it
	vm_pid=$VM_PID
	exec {vm_out}<&"${VM[0]}"
	: >"$logs/$logname.out"
	: >"$work/out"
}

# take_line LINE: of the guest's output; what comes between the marks of guest-tests is the
# test's. quiet is how long the guest may now be without a word.
take_line() {
	local line=$1 name rc times

	if [[ $line == '@lab begin '* ]]; then
		current=${line#@lab begin }
		begun=${begun:-$SECONDS}
		: >"$work/out"
		quiet=$((${limits[$current]:-60} + 60 * turns))
	elif [[ $line =~ ^@lab\ end\ (.*)\ rc=([0-9]+)\ ms=([0-9]+)\ user=([0-9]+)\ system=([0-9]+)$ ]]; then
		name=${BASH_REMATCH[1]} rc=${BASH_REMATCH[2]} times=${BASH_REMATCH[*]:3}
		publish judge_both "$name" "$rc" "$times" "${allows[$name]:--}"
		done_tests[$name]=1 current='' ended=$SECONDS
		quiet=$((120 * turns))
	else
		printf '%s\n' "$line" >>"$work/out"
	fi
}

# Until the output ends, or nothing of it comes for too long.
take_output() {
	local line status quiet=$((300 * turns))

	while :; do
		status=0
		IFS= read -r -t "$quiet" line <&"$vm_out" || status=$?
		[ "$status" -eq 0 ] || break
		line=${line%$'\r'}
		printf '%s\n' "$line" >>"$logs/$logname.out"
		take_line "$line"
	done
	# Above 128 the time is over, else the output is.
	if [ "$status" -gt 128 ]; then
		say "# the guest has said nothing for $quiet s: ended"
		kill -- "-$vm_pid" 2>/dev/null || :
	fi
}

end_vm() {
	vm_rc=0
	wait "$vm_pid" || vm_rc=$?
	vm_pid=
	exec {vm_out}<&-
}

# Sets fault to what went wrong with the emulator, if that is known.
find_fault() {
	local log=$logs/$logname.log

	fault=
	if [ "$vm_rc" -eq 121 ] && [ -n "$current" ] && grep -qF "$known_abort" "$work/vm.err"; then
		fault="QEMU crashed ($known_abort) during $current"
	elif [ "$vm_rc" -ne 0 ] && [ -z "$begun" ] && grep -qF "$known_stall" "$log" &&
		"$LAB/scan-log" "$log" "$known_stall" >"$work/trouble"; then
		fault="QEMU lost drives' interrupts ($known_stall) before the first test"
	fi
}

# after_fault GROUP: leaves in its list the tests that have not ended.
after_fault() {
	local name left=

	say "# $fault; the tests that are left get another boot"
	say_vm
	cp "$logs/$logname.log" "$logs/$logname.first.log"
	emulator_faults+=("$group: $fault; build/logs/$logname.first.log")
	for name in "${names[@]}"; do
		[ -n "${done_tests[$name]:-}" ] ||
			left+=$(grep -m 1 -- "^$name|" <<<"${groups[$1]}")$'\n'
	done
	groups[$1]=$left
}

# run_guest GROUP again|'': the tests that are left of a group, and once more after a fault
# of the emulator.
run_guest() {
	local kernel iommu topology seconds started=$SECONDS begun='' ended=$SECONDS
	local current='' vm_rc vm_out fault names=() first
	local -A allows=() limits=() done_tests=()

	read -r kernel iommu topology <<<"${1%.*}"
	take_tests "$1"
	say "# boot $boot of ${#keys[@]}: kernel $kernel, IOMMU $iommu, topology $topology," \
		"${#names[@]} tests; $(clock $SECONDS) so far"
	start_vm "$kernel" "$iommu" "$topology"
	take_output
	end_vm
	find_fault
	if [ -n "$fault" ] && [ -z "$2" ]; then
		after_fault "$1"
		run_guest "$1" again
		return
	fi
	first=$((${begun:-$SECONDS} - started))
	boots+=("$first $((ended - ${begun:-$ended})) $((SECONDS - ended)) ${1// //}")
	publish judge_end
	say "# boot $boot took $((SECONDS - started)) s"
}

# ---- a process of its own ----------------------------------------------------------
# boot NUMBER GROUP: leaves its results in files.
boot() {
	local boot=$1 work=$shared/$1 group logname=$prefix-${2// /-} list
	local passed=0 failed=0 skipped=0
	local failures=() skips=() json=() emulator_faults=() took=() boots=()

	group=${2// //} group=${group%.*}
	vm_pid= # not local: the trap comes after boot()
	trap '[ -z "$vm_pid" ] || kill -- "-$vm_pid" 2>/dev/null || :' EXIT
	trap 'exit 143' TERM
	mkdir "$work"
	run_guest "$2" ''
	for list in $lists; do
		declare -n lines=$list
		[ ${#lines[@]} -eq 0 ] || printf '%s\n' "${lines[@]}" >"$work/$list"
	done
	echo "$passed $failed $skipped" >"$work/counts"
}

# ---- the debug kernel, which is built meanwhile --------------------------------------
# Guests wait for their clocks and disks now and then; a build with the least priority
# has the processors just then. And what is wrong on the plain kernel is known earlier.
# nice compares tasks of one session only where sessions are groups to the scheduler, and
# builder and guests have sessions of their own: so the group is nice, too.
start_builder() {
	local group

	for group in "${keys[@]}"; do
		[[ $group == debug\ * ]] || continue
		# a process group of its own, for cleanup()
		# shellcheck disable=SC2016  # its own
		setsid nice -n 19 bash -c '
			[ ! -w /proc/self/autogroup ] || echo 19 >/proc/self/autogroup
			"$0" debug && : >"$1"' "$LAB/kernel" \
			"$shared/debug-kernel" >"$logs/kernel-debug.out" 2>&1 &
		builder=$!
		return
	done
}

# Waits for it; without it there are no boots of it, and that is a failure.
need_builder() {
	local started=$SECONDS last=$SECONDS

	[ -n "$builder" ] || return 0
	while kill -0 "$builder" 2>/dev/null; do
		if [ $((SECONDS - last)) -ge 20 ]; then
			last=$SECONDS
			say "# waiting for the debug kernel: $(tail -n 1 "$logs/kernel-debug.out")"
		fi
		sleep 0.5
	done
	builder=
	if [ ! -e "$shared/debug-kernel" ]; then
		comment <"$logs/kernel-debug.out"
		failed=$((failed + 1))
		failures+=("the debug kernel was not built, and nothing was tested on it")
		return 1
	fi
	say "# the debug kernel is built; waited for it for $((SECONDS - started)) s"
}

# How many boots run now: in REPLY.
running() {
	local pid

	REPLY=0
	for pid in $(jobs -rp); do
		[ "$pid" = "$builder" ] || REPLY=$((REPLY + 1))
	done
}

# debug_first N: boot N is the debug kernel's longest one if that is there and it takes longer
# than what was to come, of the plain one: what runs alone in the end is short.
debug_first() {
	local n=$1 d

	[ -z "$builder" ] || [ -e "$shared/debug-kernel" ] || return 0
	for d in "${!keys[@]}"; do
		[[ $d -gt $n && ${keys[d]} == debug\ * ]] || continue
		[ "${weight[${keys[d]}]}" -gt "${weight[${keys[n]}]}" ] || return 0
		keys=("${keys[@]:0:n}" "${keys[d]}" "${keys[@]:n:d-n}" "${keys[@]:d+1}")
		return 0
	done
}

# run_boots AT_ONCE: all of them, that many at the same time.
run_boots() {
	local n

	for n in "${!keys[@]}"; do
		while running && [ "$REPLY" -ge "$1" ]; do
			wait -n || :
		done
		[[ $n -lt $1 || ${keys[n]} == debug\ * ]] || debug_first "$n"
		if [[ ${keys[n]} == debug\ * ]] && ! need_builder; then
			# the debug kernel's are the last ones
			keys=("${keys[@]:0:n}")
			break
		fi
		boot $((n + 1)) "${keys[n]}" &
	done
	wait
}

# collect NUMBER GROUP: what boot() has left.
collect() {
	local list part p f s

	if ! read -r p f s <"$shared/$1/counts"; then
		failures+=("${2// //}: boot $1 has left no results")
		p=0 f=1 s=0
	fi 2>/dev/null
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	for list in $lists; do
		[ -f "$shared/$1/$list" ] || continue
		mapfile -t part <"$shared/$1/$list"
		declare -n lines=$list
		lines+=("${part[@]}")
	done
}
