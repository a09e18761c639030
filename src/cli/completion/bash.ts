import type { CompletedCommand } from "./command-tree.ts";
import { quoted, steps, valued } from "./shell-words.ts";

/** Works in bash 3.2 (macOS) and later, with or without the package bash-completion. */
export function bashCompletion(tree: readonly CompletedCommand[]): string {
	const values = tree.flatMap((command) =>
		valued(command).map(
			({ at, option }) => `\t\t${at.map(quoted).join("|")}) words=${quoted(option.choices.join(" "))} ;;\n`,
		),
	);
	const words = tree.map(({ path, words: named, options }) => {
		const flags = options.flatMap((option) => option.flags.slice(-1));
		const all = quoted(named.map(({ word }) => word).join(" "));
		return `\t\t\t${quoted(path)}) words=${all} flags=${quoted(flags.join(" "))} ;;\n`;
	});
	// Where there is nothing to offer, -o default offers files.
	return `# auditlog: completion for bash, made by \`auditlog completion bash\`
_auditlog() {
	local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}" at="" words="" flags="" i
	for ((i = 1; i < COMP_CWORD; i++)); do
		case "$at \${COMP_WORDS[i]}" in
			${steps(tree).map(quoted).join("|")}) at="\${at:+$at }\${COMP_WORDS[i]}" ;;
		esac
	done
	case "$at $prev" in
${values.join("")}		*) case "$at" in
${words.join("")}		esac ;;
	esac
	[[ "$cur" == -* ]] && words="$flags"
	COMPREPLY=($(compgen -W "$words" -- "$cur")) || true
}
complete -o bashdefault -o default -F _auditlog auditlog
`;
}
