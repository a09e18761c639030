import type { MessageInitShape } from "@bufbuild/protobuf";
import type { CallOptions, Client } from "@connectrpc/connect";
import {
	type AuditService,
	type ExportChunk,
	type ExportManifest,
	type ExportRequestSchema,
	type ExportStart,
} from "../../src/gen/audit/v1/audit_service_pb.ts";

/** A file as a client of Export has it in the end. */
export interface ExportedFile {
	readonly start: ExportStart;
	readonly chunks: readonly ExportChunk[];
	readonly bytes: Buffer;
	readonly text: string;
	readonly manifest: ExportManifest;
}

/** Everything Export gives, to its end. Throws what the stream throws, and where it does not have the form it promises. */
export async function exportFile(
	client: Pick<Client<typeof AuditService>, "export">,
	request: MessageInitShape<typeof ExportRequestSchema>,
	options?: CallOptions,
): Promise<ExportedFile> {
	let start: ExportStart | undefined;
	let manifest: ExportManifest | undefined;
	const chunks: ExportChunk[] = [];
	for await (const { part } of client.export(request, options)) {
		if (manifest) throw new Error("something came after the manifest");
		if (part.case === "start" && !start) start = part.value;
		else if (part.case === "chunk" && start) chunks.push(part.value);
		else if (part.case === "manifest") manifest = part.value;
		else throw new Error(`${part.case} came out of turn`);
	}
	if (!start || !manifest) throw new Error("the stream ended without a manifest");
	const bytes = Buffer.concat(chunks.map(({ data }) => data));
	return { start, chunks, bytes, text: bytes.toString(), manifest };
}
