import { once } from "node:events";
import { constants } from "node:http2";
import { AuditError } from "../errors.ts";
import { microsOf, rfc3339 } from "../event/time.ts";
import type { ExportManifest, ExportResponse, ExportStart } from "../gen/audit/v1/audit_service_pb.ts";
import type { NodeRequest, NodeResponse } from "./call.ts";

/** What is said before the file: in headers. */
export const FILE_HEADER_MEANINGS = {
	"content-disposition": "The file's name.",
	"audit-export-batch-no": "The number of the newest batch that the file has events of.",
	"audit-export-committed-at": "When that batch was committed.",
	"audit-export-chain": "The link of the manifest chain at that batch, in hexadecimal.",
	"audit-export-masked-columns": "Columns that are empty because a unit is masked for this key.",
	"audit-export-resume-token": "Given as `resume_token`, gives the same file again.",
} as const;

/** What is said after it: in trailers, which come if and only if the file is whole. */
const TRAILERS = [
	"audit-export-events",
	"audit-export-bytes",
	"audit-export-sha256",
	"audit-export-content-bytes",
	"audit-export-content-sha256",
] as const;

/** The stream of an export as an HTTP response: the bytes of the file, and nothing between them. */
export class RestFile {
	readonly #start: ExportStart;
	readonly #rest: AsyncIterator<ExportResponse>;
	readonly #callEnds: AbortSignal;

	private constructor(start: ExportStart, rest: AsyncIterator<ExportResponse>, callEnds: AbortSignal) {
		this.#start = start;
		this.#rest = rest;
		this.#callEnds = callEnds;
	}

	/**
	 * Waits for the first message: what fails before it is answered as any error is.
	 *
	 * @param callEnds aborted with the call, perhaps before there is anything to send
	 */
	static async open(messages: AsyncIterable<ExportResponse>, callEnds: AbortSignal): Promise<RestFile> {
		const rest = messages[Symbol.asyncIterator]();
		const { value } = (await rest.next()) as IteratorResult<ExportResponse, undefined>;
		if (value?.part.case !== "start") throw new Error("an export began with something else");
		return new RestFile(value.part.value, rest, callEnds);
	}

	/**
	 * Sends it as fast as it is read. One that breaks off ends with neither a last chunk (HTTP/1.1) nor END_STREAM (HTTP/2), which
	 * every client takes for a failure.
	 */
	async send(request: NodeRequest, response: NodeResponse): Promise<void> {
		response.writeHead(200, { ...headersOf(this.#start), trailer: TRAILERS.join(", ") });
		try {
			if (request.method === "HEAD") return void response.end();
			await this.#sendParts(response);
		} catch (error) {
			if ("stream" in response) response.stream.close(constants.NGHTTP2_INTERNAL_ERROR);
			throw error;
		} finally {
			await this.#rest.return?.();
		}
	}

	async #sendParts(response: NodeResponse): Promise<void> {
		for (;;) {
			const { value } = (await this.#rest.next()) as IteratorResult<ExportResponse, undefined>;
			const part = value?.part;
			if (part?.case === "chunk") {
				const mayGoOn = response.write(part.value.data);
				// A response that was closed before takes nothing, and never says so.
				if (!mayGoOn) await once(response, "drain", { signal: this.#callEnds });
			} else if (part?.case === "manifest") {
				response.addTrailers(trailersOf(part.value));
				return void response.end();
			} else {
				throw new Error("an export ended without its manifest");
			}
		}
	}
}

function headersOf({ fileName, mediaType, point, maskedColumns, resumeToken }: ExportStart): Record<string, string> {
	return {
		"content-type": mediaType,
		"content-disposition": `attachment; filename="${fileName}"`,
		...(point && {
			"audit-export-batch-no": String(point.batchNo),
			"audit-export-committed-at": point.committedAt ? rfc3339(microsOf(point.committedAt)) : "",
			"audit-export-chain": hex(point.chain),
		}),
		...(maskedColumns.length > 0 && { "audit-export-masked-columns": maskedColumns.join(", ") }),
		...(resumeToken !== "" && { "audit-export-resume-token": resumeToken }),
	};
}

function trailersOf({ events, bytes, sha256, contentBytes, contentSha256 }: ExportManifest) {
	return {
		"audit-export-events": String(events),
		"audit-export-bytes": String(bytes),
		"audit-export-sha256": hex(sha256),
		"audit-export-content-bytes": String(contentBytes),
		"audit-export-content-sha256": hex(contentSha256),
	} satisfies Record<(typeof TRAILERS)[number], string>;
}

function hex(bytes: Uint8Array): string {
	return Buffer.from(bytes).toString("hex");
}

/** `format=csv` is short for `format=EXPORT_FORMAT_CSV`, and so on. */
export function withWords(params: URLSearchParams): URLSearchParams {
	const all = new URLSearchParams(params);
	for (const name of ["format", "compression"]) {
		const words = all.getAll(name);
		all.delete(name);
		for (const word of words) {
			all.append(name, /^[a-z]+$/.test(word) ? `EXPORT_${name}_${word}`.toUpperCase() : word);
		}
	}
	return all;
}

/** What is wrong with the search is told of the parameters: there the search's fields stand beside the others. */
export async function withoutQuery<T>(work: () => Promise<T>): Promise<T> {
	try {
		return await work();
	} catch (error) {
		if (!(error instanceof AuditError) || error.violations.length === 0) throw error;
		const { code, reason, cause } = error;
		const violations = error.violations.map((each) => ({ ...each, field: each.field.replace(/^query\./, "") }));
		throw new AuditError(code, error.message.replace(/^query\./, ""), { reason, violations, cause });
	}
}
