import type { JsonObject } from "@bufbuild/protobuf";
import { type ExportManifest, ExportManifestSchema } from "../../gen/audit/v1/audit_service_pb.ts";
import { restJson } from "../../rpc/rest-json.ts";
import { CommandError } from "../command-line.ts";

/** What was received of a file. */
export interface Received {
	readonly bytes: number;
	readonly events: bigint;
	readonly sha256: Buffer;
}

/** @throws CommandError if what was received is not what the manifest says was sent */
export function checkManifest(manifest: ExportManifest, { bytes, events, sha256 }: Received): void {
	const [length, count] = [BigInt(bytes), events];
	if (length !== manifest.bytes) throw differs("length", String(manifest.bytes), String(length));
	if (count !== manifest.events) throw differs("number of events", String(manifest.events), String(count));
	if (!sha256.equals(manifest.sha256)) throw differs("SHA-256", hex(manifest.sha256), hex(sha256));
}

function differs(what: string, sent: string, received: string): CommandError {
	return new CommandError(
		`the file is not the one that the service sent: its ${what} is ${received}, and the manifest says ${sent}`,
	);
}

/** The manifest as REST gives it, but with hashes as `sha256sum` and `auditlog verify` write them. */
export function manifestJson(manifest: ExportManifest): JsonObject {
	const json = restJson(ExportManifestSchema, manifest);
	const { point } = manifest;
	return {
		...json,
		sha256: hex(manifest.sha256),
		content_sha256: hex(manifest.contentSha256),
		...(point && { point: { ...(json["point"] as JsonObject), chain: hex(point.chain) } }),
	};
}

function hex(bytes: Uint8Array): string {
	return Buffer.from(bytes).toString("hex");
}
