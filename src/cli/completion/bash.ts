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
		const all = [...named.map(({ word }) => word), ...options.flatMap(({ flags }) => flags.slice(-1))];
		return `\t\t\t${quoted(path)}) words=${quoted(all.join(" "))} ;;\n`;
	});
	// Where there is nothing to offer, -o default offers files.
	return `# auditlog: completion for bash, made by \`auditlog completion bash\`
_auditlog() {
	local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}" at="" words="" i
	for ((i = 1; i < COMP_CWORD; i++)); do
		case "$at \${COMP_WORDS[i]}" in
			${steps(tree).map(quoted).join("|")}) at="\${at:+$at }\${COMP_WORDS[i]}" ;;
		esac
	done
	case "$at $prev" in
${values.join("")}		*) case "$at" in
${words.join("")}		esac ;;
	esac
	COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o bashdefault -o default -F _auditlog auditlog
`;
}
