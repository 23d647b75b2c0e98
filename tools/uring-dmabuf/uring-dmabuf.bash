# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# Completion for bash: subcommands, their options from --help, and files.
_uring_dmabuf() {
	local cur prev words cword

	_init_completion || return
	if [ "$cword" -eq 1 ]; then
		mapfile -t COMPREPLY < <(compgen -W "$(uring-dmabuf --list-commands) --help --version" -- "$cur")
		return
	fi
	case $prev in
	-m | --memory)
		mapfile -t COMPREPLY < <(compgen -W "udmabuf heap:system cuda:0 fd:" -- "$cur")
		return
		;;
	esac
	if [[ $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(uring-dmabuf "${words[1]}" --help |
			grep -oE -e '--[a-z0-9-]+' | sort -u)" -- "$cur")
		return
	fi
	_filedir
}
complete -F _uring_dmabuf uring-dmabuf
