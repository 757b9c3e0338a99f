# bash completion for ptrig
# shellcheck shell=bash disable=SC2207

_ptrig_words() { COMPREPLY=($(compgen -W "$1" -- "$cur")); }

_ptrig_rules() { ptrig -j rule list 2>/dev/null | sed -n 's/.*"name": *"\([^"]*\)".*/\1/p'; }

_ptrig() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local object="" verb="" word i
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		case $word in
		--pin-dir | -c | --config) ((i++)) ;;
		-*) ;;
		*) if [ -z "$object" ]; then object=$word; elif [ -z "$verb" ]; then verb=$word; fi ;;
		esac
	done

	case $prev in
	--pin-dir)
		COMPREPLY=($(compgen -d -- "$cur"))
		return
		;;
	-c | --config)
		COMPREPLY=($(compgen -f -- "$cur"))
		return
		;;
	--rule)
		_ptrig_words "$(_ptrig_rules)"
		return
		;;
	--sources)
		_ptrig_words "lan routed"
		return
		;;
	--remotes)
		_ptrig_words "any contacted"
		return
		;;
	--refresh)
		_ptrig_words "trigger traffic"
		return
		;;
	--conflict)
		_ptrig_words "hold takeover"
		return
		;;
	--close)
		_ptrig_words "idle connection"
		return
		;;
	--on-close)
		_ptrig_words "keep kill"
		return
		;;
	--confirm | --log | --enabled)
		_ptrig_words "true false"
		return
		;;
	esac

	local keys="--enabled --description --trigger --trigger-remotes --sources --open --remotes --timeout --refresh
		--conflict --yield-after --close --confirm --max-lifetime --on-close --session-limit --cooldown --log --save"
	case "$object $verb" in
	" ") _ptrig_words "up run down status check rule apply export lease session monitor
		--pin-dir --json --help --version" ;;
	"rule ") _ptrig_words "list show add set remove enable disable" ;;
	"lease " | "session ") _ptrig_words "list close" ;;
	"rule add") _ptrig_words "$keys" ;;
	"rule set") _ptrig_words "$(_ptrig_rules) $keys" ;;
	"rule "*) _ptrig_words "$(_ptrig_rules) --save --json" ;;
	"lease list") _ptrig_words "--rule --host --port --json" ;;
	"lease close") _ptrig_words "$(_ptrig_rules) --host --remote --all --kill" ;;
	"session list") _ptrig_words "--rule --host --port --json" ;;
	"session close") _ptrig_words "--rule --host --remote --all" ;;
	"up "*) _ptrig_words "-c --if-needed" ;;
	"run "*) _ptrig_words "-c" ;;
	"check "* | "apply "*) COMPREPLY=($(compgen -f -- "$cur") $(compgen -W "-n --json" -- "$cur")) ;;
	*) _ptrig_words "--json" ;;
	esac
}
complete -F _ptrig ptrig
