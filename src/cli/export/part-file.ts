import { createHash, type Hash } from "node:crypto";
import { type FileHandle, open, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { type ExportManifest, type ExportRequest, ExportRequestSchema } from "../../gen/audit/v1/audit_service_pb.ts";
import { CommandError } from "../command-line.ts";
import { checkManifest, manifestJson } from "./manifest-check.ts";
import type { Target } from "./receive-export.ts";

/**
 * A file that is not whole yet: FILE.part, and beside it FILE.part.json, which says how to go on. Begun or found → written and marked
 * any number of times → finished, which makes it FILE, or kept.
 */
export class PartFile implements Target {
	readonly #path: string;
	readonly #file: FileHandle;
	#state: State;
	#hash: Hash;
	/** Of what is there up to the last mark. */
	#markedHash: Hash;
	bytes: number;

	private constructor(path: string, file: FileHandle, state: State, hash: Hash) {
		this.#path = path;
		this.#file = file;
		this.#state = state;
		this.#hash = hash;
		this.#markedHash = hash.copy();
		this.bytes = state.bytes;
	}

	/**
	 * Finds what the same command has begun, or begins.
	 *
	 * @param command by which it is known as the same
	 */
	static async open(path: string, { asked, command }: { asked: ExportRequest; command: string }): Promise<PartFile> {
		const fresh: State = {
			command,
			request: toJson(ExportRequestSchema, asked),
			resumeToken: "",
			bytes: 0,
			events: "0",
		};
		if (await isFolder(path)) throw new CommandError(`${path} is a folder: name a file in it`);
		const found = await readState(stateOf(path));
		const state = found?.command === command && found.resumeToken !== "" ? found : fresh;
		// What is written goes to its end, wherever it was cut to.
		const file = await open(partOf(path), "a+");
		const hash = createHash("sha256");
		if (await hashBeginning(file, state.bytes, hash)) return new PartFile(path, file, state, hash);
		// It is shorter than it was: the machine went down with the end of it.
		await file.truncate(0);
		return new PartFile(path, file, fresh, createHash("sha256"));
	}

	get request(): ExportRequest {
		return fromJson(ExportRequestSchema, this.#state.request);
	}

	get resumeToken(): string {
		return this.#state.resumeToken;
	}

	get events(): bigint {
		return BigInt(this.#state.events);
	}

	async goBack(): Promise<void> {
		if (this.bytes === this.#state.bytes) return;
		await this.#file.truncate(this.#state.bytes);
		this.#hash = this.#markedHash.copy();
		this.bytes = this.#state.bytes;
	}

	async write(bytes: Uint8Array): Promise<void> {
		if (bytes.byteLength === 0) return;
		await this.#file.appendFile(bytes);
		this.#hash.update(bytes);
		this.bytes += bytes.byteLength;
	}

	async mark(resumeToken: string, events: bigint): Promise<void> {
		this.#state = { ...this.#state, resumeToken, bytes: this.bytes, events: String(events) };
		this.#markedHash = this.#hash.copy();
		await this.keep();
	}

	async finish(manifest: ExportManifest, events: bigint): Promise<void> {
		await this.#file.sync();
		try {
			checkManifest(manifest, { bytes: this.bytes, events, sha256: this.#hash.digest() });
		} catch (error) {
			// Nothing good would come of going on with it.
			this.#state = { ...this.#state, resumeToken: "" };
			throw error;
		}
		await replace(`${this.#path}.manifest.json`, `${JSON.stringify(manifestJson(manifest), undefined, 2)}\n`);
		await this.#file.close();
		// At this point the file is whole: whoever finds it finds all of it.
		await rename(partOf(this.#path), this.#path);
		await rm(stateOf(this.#path), { force: true });
	}

	async keep(): Promise<void> {
		if (this.#isEmpty) return this.#discard();
		await replace(stateOf(this.#path), JSON.stringify(this.#state));
	}

	howToGoOn(): string | undefined {
		if (this.#isEmpty) return undefined;
		const again = this.resumeToken === "" ? "begins again" : `goes on after ${this.events.toLocaleString("en")} events`;
		return `${partOf(this.#path)} has what came so far; the same command ${again}`;
	}

	/** Whether nothing came: it was refused, or not even reached. */
	get #isEmpty(): boolean {
		return this.bytes === 0 && this.resumeToken === "";
	}

	async #discard(): Promise<void> {
		for (const path of [partOf(this.#path), stateOf(this.#path)]) await rm(path, { force: true });
	}
}

interface State {
	readonly command: string;
	readonly request: JsonValue;
	/** Empty: it cannot be gone on with. */
	readonly resumeToken: string;
	/** Up to where the token is good. */
	readonly bytes: number;
	readonly events: string;
}

function partOf(path: string): string {
	return `${path}.part`;
}

function stateOf(path: string): string {
	return `${path}.part.json`;
}

async function isFolder(path: string): Promise<boolean> {
	const found = await stat(path).catch(() => undefined);
	return found?.isDirectory() ?? false;
}

async function readState(path: string): Promise<State | undefined> {
	try {
		return JSON.parse(await readFile(path, "utf8")) as State;
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
		if (!(error instanceof SyntaxError)) throw error;
		throw new CommandError(`${path} is not what \`auditlog export\` left there: delete it to begin anew`, {
			cause: error,
		});
	}
}

/** Cuts a file to its first bytes and hashes them. @returns whether it has so many */
async function hashBeginning(file: FileHandle, bytes: number, hash: Hash): Promise<boolean> {
	const { size } = await file.stat();
	if (size < bytes) return false;
	await file.truncate(bytes);
	const buffer = Buffer.alloc(1024 * 1024);
	for (let at = 0; at < bytes; ) {
		const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
		hash.update(buffer.subarray(0, bytesRead));
		at += bytesRead;
	}
	return true;
}

/** The old or the new is there, never a half of it. */
async function replace(path: string, text: string): Promise<void> {
	await writeFile(`${path}.new`, text);
	await rename(`${path}.new`, path);
}
