import { createHash } from "node:crypto";
import type { ExportManifest, ExportRequest } from "../../gen/audit/v1/audit_service_pb.ts";
import { CommandError, print, type Terminal } from "../command-line.ts";
import { checkManifest } from "./manifest-check.ts";
import type { Target } from "./receive-export.ts";

/**
 * Standard output: what is written there cannot be taken back. So bytes wait for the mark after them, which is never far; but
 * where there are no marks, they go at once.
 */
export class StdoutTarget implements Target {
	readonly request: ExportRequest;
	readonly #stdout: Terminal;
	/** Of what is written. */
	readonly #hash = createHash("sha256");
	#written = 0;
	#waiting: Uint8Array[] = [];
	bytes = 0;
	events = 0n;
	resumeToken = "";

	constructor(stdout: Terminal, request: ExportRequest) {
		this.#stdout = stdout;
		this.request = request;
	}

	goBack(): Promise<void> {
		if (this.resumeToken === "" && this.#written > 0) {
			throw new CommandError("the export broke off, and a file of this format cannot be gone on with");
		}
		this.#waiting = [];
		this.bytes = this.#written;
		return Promise.resolve();
	}

	async write(bytes: Uint8Array): Promise<void> {
		this.#waiting.push(bytes);
		this.bytes += bytes.byteLength;
		if (this.resumeToken === "") await this.#print();
	}

	async mark(resumeToken: string, events: bigint): Promise<void> {
		await this.#print();
		this.resumeToken = resumeToken;
		this.events = events;
	}

	async finish(manifest: ExportManifest, events: bigint): Promise<void> {
		await this.#print();
		checkManifest(manifest, { bytes: this.bytes, events, sha256: this.#hash.digest() });
	}

	keep(): Promise<void> {
		return Promise.resolve();
	}

	howToGoOn(): string | undefined {
		if (this.#written === 0) return undefined;
		return "what was written so far is not whole; with --out FILE the same command would go on where it broke off";
	}

	async #print(): Promise<void> {
		for (const bytes of this.#waiting.splice(0)) {
			this.#hash.update(bytes);
			this.#written += bytes.byteLength;
			await print(this.#stdout, bytes);
		}
	}
}
