import { existsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { CannotStart } from "./cannot-start.ts";

/** As whom a program that refuses to be root runs. */
export interface RunAs {
	/** Whose its data must be; absent: ours. */
	readonly owner?: { readonly uid: number; readonly gid: number };
	/** What to spawn so that the program runs like that. */
	around(command: string, args: readonly string[]): Command;
}

interface Command {
	command: string;
	args: readonly string[];
	uid?: number;
	gid?: number;
}

/** The user `nobody`: there on every Linux, so none has to be made. */
const NOBODY = 65534;
const SETPRIV = ["/usr/bin/setpriv", "/bin/setpriv"];

/**
 * As root: `nobody`; else ourselves. Where `nobody` cannot reach the programs or the data (a checkout under a closed home
 * directory) the program keeps one of root's powers, that of passing file permissions, and no other.
 */
export function runAsFor(programDirectories: readonly string[], dataDir: string): RunAs {
	if (process.getuid?.() !== 0) return { around: (command, args) => ({ command, args }) };
	const owner = { uid: NOBODY, gid: NOBODY };
	if (programDirectories.every(isOpen) && isOpen(dirname(dataDir))) {
		return { owner, around: (command, args) => ({ command, args, ...owner }) };
	}
	const setpriv = SETPRIV.find((path) => existsSync(path));
	if (!setpriv) {
		throw new CannotStart(
			`the user nobody, as whom PostgreSQL runs when started by root, cannot reach ${dataDir} or ` +
				`${programDirectories[0]}; open the folders above them (chmod o+x), install util-linux (setpriv), or do not run as root`,
		);
	}
	const keep = [
		"--inh-caps=-all,+dac_override",
		"--ambient-caps=-all,+dac_override",
		// Without it access(2), by which initdb and postgres look for their own programs, leaves that power aside.
		"--securebits=+no_setuid_fixup",
		"--no-new-privs",
	];
	return {
		owner,
		around: (command, args) => ({
			command: setpriv,
			args: [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups", ...keep, command, ...args],
		}),
	};
}

/** Whether every user can enter a folder and all folders above it. */
function isOpen(directory: string): boolean {
	for (let path = directory; ; path = dirname(path)) {
		if ((statSync(path).mode & 0o001) === 0) return false;
		if (path === dirname(path)) return true;
	}
}
