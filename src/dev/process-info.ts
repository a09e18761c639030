import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";

/** Whether a process of that number runs. One that ended but was not looked after yet holds nothing and does not count. */
export function isRunning(pid: number): boolean {
	try {
		process.kill(pid, 0);
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code !== "EPERM") return false;
	}
	return !/^State:\s+[ZX]/m.test(processStatus(pid));
}

/** The arguments of a process; none if it is gone. */
export function commandLine(pid: number): string[] {
	return process.platform === "linux" ? readProc(pid, "cmdline").split("\0") : ps(pid, "args").split(" ");
}

/** The name of a process, such as `make`; empty if it is gone. */
export function processName(pid: number): string {
	return process.platform === "linux" ? readProc(pid, "comm").trim() : ps(pid, "comm");
}

/** When a process began, in some unit: together with its number this names it for ever. Empty if it is gone. */
export function startMark(pid: number): string {
	if (process.platform !== "linux") return ps(pid, "lstart");
	// The name, in parentheses, may hold anything; the 22nd field is the 20th after it (proc(5)).
	const stat = readProc(pid, "stat");
	return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
}

/** What Linux says of a process, as `Name:\tvalue` lines; empty if it is gone, and elsewhere. */
export function processStatus(pid: number): string {
	return readProc(pid, "status");
}

function readProc(pid: number, file: string): string {
	try {
		return readFileSync(`/proc/${pid}/${file}`, "utf8");
	} catch {
		return "";
	}
}

function ps(pid: number, field: string): string {
	try {
		return execFileSync("ps", ["-o", `${field}=`, "-p", String(pid)], { encoding: "utf8" }).trim();
	} catch {
		return "";
	}
}
