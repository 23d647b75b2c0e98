# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Sourced by run-tests, after lib.sh: what a boot's tests have said becomes test points.
#
# Takes, of a boot (boots.sh):
#   work shared logs         directories: of this boot, of this run, of kernel logs
#   group logname            kernel/iommu/topology, the name of its kernel log
#   names done_tests         its tests, and which of them have been judged
#   current vm_rc            the test that ran when the guest ended, vm's exit code
# Adds to:
#   passed failed skipped    counts
#   failures skips json took of each test point or program one line, for the report
# V=1 shows the output of good programs, too.
# shellcheck disable=SC2154  # what it takes is set there

# How many lines the list of failures at the end of the report has of what was said to one.
most_details=6

# What is in the kernel log and belongs to no test, by a name of its own.
outside='before, between or after the tests'

# publish COMMAND...: what it says is not torn apart by another boot, and its test points
# (which result() leaves without a number) are numbered.
publish() {
	"$@" >"$work/said"
	{
		flock 9
		awk -v file="$shared/total" 'BEGIN { getline n <file; close(file) }
			/^(not )?ok @ / { sub(/@/, ++n) }
			{ print }
			END { print n >file }' "$work/said"
	} 9>"$shared/lock"
}

# json_object NAME VALUE...: in REPLY.
json_object() {
	local s fields=

	while [ $# -gt 0 ]; do
		s=${2//\\/\\\\}
		s=${s//\"/\\\"}
		s=${s//$'\t'/\\t}
		fields+=", \"$1\": \"${s//[[:cntrl:]]/ }\""
		shift 2
	done
	REPLY="{${fields#, }}"
}

# result ok|not ok|skip NAME [REASON]: one test point.
result() {
	local how=$1 name="$group $2" reason=${3:-}

	case $how in
	ok)
		passed=$((passed + 1))
		say "ok @ $name"
		;;
	skip)
		skipped=$((skipped + 1))
		skips+=("$name: ${reason:-no reason given}")
		say "ok @ $name # SKIP ${reason:-no reason given}"
		;;
	*)
		failed=$((failed + 1))
		failures+=("$name${reason:+: $reason}")
		say "not ok @ $name${reason:+ # $reason}"
		;;
	esac
	json_object name "$2" group "$group" result "$how" reason "$reason"
	json+=("$REPLY")
}

# details: what was said to the failure before, for who sees the end of the report only.
details() {
	local -a lines

	mapfile -t -n "$most_details" lines
	[ ${#lines[@]} -eq 0 ] || failures+=("${lines[@]/#/    }")
}

# Output of programs, as TAP diagnostics.
comment() { sed 's/^/#   /'; }

say_where() { say "#   (all of it: build/logs/$logname.log)"; }

# ---- one program's output ----------------------------------------------------------
# judge_line LINE: of the output of the program that judge() is at.
judge_line() {
	local line=${1%$'\r'} what reason

	if [[ $line =~ ^1\.\.([0-9]+) ]]; then
		planned=$((planned + BASH_REMATCH[1]))
		[[ $line =~ ^1\.\.0.*SKIP[[:space:]]*(.*) ]] || return 0
		# The program as a whole is one test that was skipped.
		seen=$((seen + 1)) planned=$((planned + 1))
		result skip "$name" "${BASH_REMATCH[1]}"
		return
	fi
	[[ $line =~ ^(not\ ok|ok)\ [0-9]+[[:space:]]*(-\ )?(.*)$ ]] || return 0
	seen=$((seen + 1))
	what=${BASH_REMATCH[3]}
	if [[ $what =~ ^(.*)#[[:space:]]*[Ss][Kk][Ii][Pp][[:space:]]*(.*)$ ]]; then
		what=${BASH_REMATCH[1]} reason=${BASH_REMATCH[2]}
		trim what
		result skip "$name: ${what:-$seen}" "$reason"
	elif [ "${line%% *}" = ok ]; then
		result ok "$name: $what"
	else
		bad=$((bad + 1))
		result 'not ok' "$name: $what"
	fi
}

# judge_code RC FILE: of a program without TAP, its exit code is the one test.
judge_code() {
	case $1 in
	0) result ok "$name" ;;
	4) result skip "$name" "$(sed -n 's/.*SKIP[: ]*//p' "$2" | tail -n 1)" ;;
	124 | 137) bad=1; result 'not ok' "$name" "time limit" ;;
	*) bad=1; result 'not ok' "$name" "exit code $1" ;;
	esac
}

# judge_rest RC: what the test points themselves do not say.
judge_rest() {
	local rc=$1 late=

	[ "$rc" -ne 124 ] || late=', time limit'
	if [ "$planned" -gt 0 ] && [ "$seen" -ne "$planned" ]; then
		bad=$((bad + 1))
		result 'not ok' "$name" "$seen of $planned planned tests came$late"
	elif [ "$rc" -ne 0 ] && [ "$rc" -ne 4 ] && [ "$bad" -eq 0 ]; then
		bad=1
		result 'not ok' "$name" "exit code $rc"
	fi
}

# judge NAME RC TIMES FILE: a program by its output. TIMES: ms, by the clock, of the guest's
# processors for user space, and for the kernel.
judge() {
	local name=$1 rc=$2 file=$4 line planned=0 seen=0 bad=0 ms user system

	read -r ms user system <<<"$3"
	say "# $group: $name, $((ms / 1000)).$(((ms % 1000) / 100)) s"
	took+=("$ms $user $system $group $name")
	while IFS= read -r line; do
		judge_line "$line"
	done <"$file"
	if [ $seen -eq 0 ]; then judge_code "$rc" "$file"; else judge_rest "$rc"; fi
	grep -vE '^(ok |TAP version|1\.\.|$)' "$file" >"$work/words" || :
	if [ $bad -gt 0 ] || [ "${V:-0}" = 1 ]; then
		tail -n 60 "$work/words" | comment
	fi
	# FILE:LINE: of an assertion, or the last words
	[ $bad -eq 0 ] || details < <(grep -E '^# .*:[0-9]+:' "$work/words" ||
		tail -n "$most_details" "$work/words")
}

# ---- the kernel log ----------------------------------------------------------------
# log_part NAME LOG: of the test of that name, or what is outside of all.
log_part() {
	if [ "$1" = "$outside" ]; then
		awk '/@lab begin / { inside = 1 } !inside { print } /@lab end / { inside = 0 }' "$2"
	else
		awk -v b="@lab begin $1" -v e="@lab end $1 " '
			index($0, b) && substr($0, index($0, b)) == b { on = 1 }
			on { print }
			on && index($0, e) { exit }' <(tr -d '\r' <"$2")
	fi
}

# judge_log NAME ALLOW: trouble in the part of the kernel log that is the test's.
judge_log() {
	local name=$1 allow=$2 out

	log_part "$name" "$logs/$logname.log" >"$work/log.part"
	[ "$allow" = - ] && allow=
	if ! out=$("$LAB/scan-log" "$work/log.part" "${allow//;;/|}"); then
		result 'not ok' "$name" "kernel log"
		out=${out//log.part:/}
		details <<<"$out"
		comment <<<"$out"
		say_where
	fi
}

# judge_both NAME RC TIMES ALLOW
judge_both() {
	judge "$1" "$2" "$3" "$work/out"
	judge_log "$1" "$4"
}

# ---- the end of the guest ----------------------------------------------------------
# What vm and QEMU said; the kernel log's end, which vm says too, is shown in full elsewhere.
say_vm() { sed '/^--- end of /,/^---$/d' "$work/vm.err" | comment; }

judge_end() {
	local name

	if [ -n "$current" ]; then
		result 'not ok' "$current" "the guest ended during this test"
		say_vm
		tail -n 30 "$work/out" | comment
		tail -n 40 "$logs/$logname.log" | comment
		details < <(tail -n "$most_details" "$logs/$logname.log")
		say_where
		done_tests["$current"]=1
	elif [ "$vm_rc" -ne 0 ]; then
		result 'not ok' "the guest" "did not end as it should"
		comment <"$work/vm.err"
	fi
	[ -n "$current" ] || judge_log "$outside" -
	for name in "${names[@]}"; do
		[ -n "${done_tests[$name]:-}" ] || result 'not ok' "$name" "did not run"
	done
}
