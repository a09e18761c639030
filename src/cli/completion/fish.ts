import type { CompletedCommand, CompletedOption } from "./command-tree.ts";
import { steps } from "./shell-words.ts";

export function fishCompletion(tree: readonly CompletedCommand[]): string {
	const lines = tree.flatMap(({ path, words, options }) => {
		const at = `complete -c auditlog -n ${inQuotes(`__auditlog_at ${inQuotes(path)}`)}`;
		// Where there are words to choose from, files would only be in the way.
		const named = words.map(({ word, description }) => `${at} -f -a ${word} -d ${inQuotes(description)}`);
		return [...named, ...options.map((option) => `${at} ${flagsOf(option)} -d ${inQuotes(option.description)}`)];
	});
	return `# auditlog: completion for fish, made by \`auditlog completion fish\`
function __auditlog_at --argument-names wanted
	set -l at ''
	set -l given (commandline -opc)
	for word in $given[2..-1]
		switch "$at $word"
			case ${steps(tree).map(inQuotes).join(" ")}
				set at (string trim "$at $word")
		end
	end
	test "$at" = "$wanted"
end
${lines.join("\n")}
`;
}

function flagsOf({ flags, takesValue, choices }: CompletedOption): string {
	const names = flags.map((flag) => (flag.startsWith("--") ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`)).join(" ");
	if (choices.length > 0) return `${names} -x -a ${inQuotes(choices.join(" "))}`;
	return takesValue ? `${names} -r` : names;
}

/** In fish a backslash and an apostrophe between apostrophes have a backslash before them. */
function inQuotes(text: string): string {
	return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
