import { styleText } from "node:util";
import type { CommandLine } from "../command-line.ts";

export type Style = "bold" | "red" | "yellow";

/** Colours text for standard output, or leaves it as it is: see `usesColour`. */
export type Paint = (style: Style | undefined, text: string) => string;

export function painter(commandLine: CommandLine): Paint {
	if (!usesColour(commandLine)) return (_, text) => text;
	return (style, text) => (style ? styleText(style, text, { validateStream: false }) : text);
}

/** `--no-color`, else FORCE_COLOR (0: never), else NO_COLOR (https://no-color.org), else whether it is a terminal. */
function usesColour({ env, stdout, noColour }: CommandLine): boolean {
	if (noColour) return false;
	if (env.FORCE_COLOR !== undefined) return env.FORCE_COLOR !== "0" && env.FORCE_COLOR !== "false";
	if (env.NO_COLOR || env.TERM === "dumb") return false;
	return stdout.isTTY === true;
}
