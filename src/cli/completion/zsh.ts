import type { CompletedCommand, CompletedWord } from "./command-tree.ts";
import { quoted, steps, valued } from "./shell-words.ts";

export function zshCompletion(tree: readonly CompletedCommand[]): string {
	const values = tree.flatMap((command) =>
		valued(command).map(({ at, option }) => {
			const what = option.choices.length > 0 ? `compadd -- ${option.choices.map(quoted).join(" ")}` : "_files";
			return `\t\t(${at.map(quoted).join("|")}) ${what}; return ;;\n`;
		}),
	);
	const words = tree.map(({ path, words: named, options }) => {
		const flags = options.map(({ flags: all, description }) => ({ word: all.at(-1) ?? "", description }));
		return `\t\t(${quoted(path)}) items=(${described(named)}) flags=(${described(flags)}) ;;\n`;
	});
	return `#compdef auditlog
# auditlog: completion for zsh, made by \`auditlog completion zsh\`
_auditlog() {
	local at="" i
	local -a items flags
	for ((i = 2; i < CURRENT; i++)); do
		case "$at \${words[i]}" in
			(${steps(tree).map(quoted).join("|")}) at="\${at:+$at }\${words[i]}" ;;
		esac
	done
	case "$at \${words[CURRENT-1]}" in
${values.join("")}	esac
	case "$at" in
${words.join("")}	esac
	[[ "\${words[CURRENT]}" = -* ]] && items=("\${flags[@]}")
	_describe auditlog items || _files
}
if [[ "\${funcstack[1]}" = _auditlog ]]; then _auditlog "$@"; else compdef _auditlog auditlog; fi
`;
}

function described(words: readonly CompletedWord[]): string {
	return words.map(({ word, description }) => quoted(`${word.replaceAll(":", "\\:")}:${description}`)).join(" ");
}
