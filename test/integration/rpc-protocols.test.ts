import { createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import {
	createGrpcWebTransport as createGrpcWeb,
	createConnectTransport as createWebTransport,
} from "@connectrpc/connect-web";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AuditService, BatchWriteMode } from "../../src/gen/audit/v1/audit_service_pb.ts";
import { ActorType, Category, Severity } from "../../src/gen/audit/v1/event_pb.ts";
import { checkTrail } from "../support/check-trail.ts";
import { type RpcService, startRpcService } from "../support/rpc-service.ts";
import { testSecret } from "../support/services.ts";

let service: RpcService;
let key: string;

beforeAll(async () => {
	service = await startRpcService();
	key = await service.createKey("operator", "all");
});
afterAll(async () => {
	await checkTrail({ databaseUrl: service.database.url, secret: testSecret() });
	await service.end();
});

const sendKey: Interceptor = (next) => (request) => {
	request.header.set("authorization", `Bearer ${key}`);
	return next(request);
};

const transports: [string, () => Transport][] = [];
const both = () => [service.httpUrl, service.grpcUrl] as const;
for (const [i, port] of (["8080", "50051"] as const).entries()) {
	const baseUrl = () => both()[i] as string;
	for (const useBinaryFormat of [true, false]) {
		const format = useBinaryFormat ? "protobuf" : "JSON";
		transports.push(
			[
				`Connect over HTTP/2 with ${format} on ${port}`,
				() =>
					createConnectTransport({ baseUrl: baseUrl(), httpVersion: "2", useBinaryFormat, interceptors: [sendKey] }),
			],
			[
				`gRPC with ${format} on ${port}`,
				() => createGrpcTransport({ baseUrl: baseUrl(), useBinaryFormat, interceptors: [sendKey] }),
			],
			[
				`gRPC-Web over HTTP/2 with ${format} on ${port}`,
				() =>
					createGrpcWebTransport({ baseUrl: baseUrl(), httpVersion: "2", useBinaryFormat, interceptors: [sendKey] }),
			],
		);
	}
}
for (const useBinaryFormat of [true, false]) {
	const format = useBinaryFormat ? "protobuf" : "JSON";
	transports.push(
		[
			`Connect over HTTP/1.1 with ${format}`,
			() =>
				createConnectTransport({
					baseUrl: service.httpUrl,
					httpVersion: "1.1",
					useBinaryFormat,
					interceptors: [sendKey],
				}),
		],
		[
			`a browser's Connect with ${format}`,
			() => createWebTransport({ baseUrl: service.httpUrl, useBinaryFormat, interceptors: [sendKey] }),
		],
		[
			`a browser's gRPC-Web with ${format}`,
			() => createGrpcWeb({ baseUrl: service.httpUrl, useBinaryFormat, interceptors: [sendKey] }),
		],
		[
			`compressed Connect with ${format}`,
			() =>
				createConnectTransport({
					baseUrl: service.httpUrl,
					httpVersion: "1.1",
					useBinaryFormat,
					interceptors: [sendKey],
					compressMinBytes: 1,
					sendCompression: { name: "gzip", compress: gzipped, decompress: notNeeded },
				}),
		],
	);
}

describe("what is written over one protocol is what is read over it", () => {
	test.each(transports)("%s", async (name, transport) => {
		const client = createClient(AuditService, transport());
		const tenantId = `tenant-${name.replaceAll(/[^a-z0-9]/gi, "-")}`;
		const metadata = { snake_key: 1, camelKey: "zwei", "Key with spaces": [true, null, { deep: 1.5 }] };
		const { eventId, duplicate, receipt } = await client.writeEvent({
			event: {
				tenantId,
				action: "user.login",
				severity: Severity.SECURITY,
				category: Category.AUTH,
				actor: { id: "jane", type: ActorType.USER },
				metadata,
			},
		});
		expect(duplicate).toBe(false);
		expect(receipt?.leafHash).toHaveLength(32);

		const batch = await client.batchWrite({
			mode: BatchWriteMode.PARTIAL,
			events: [
				{ tenantId, action: "user.logout", actor: { id: "jane" } },
				{ tenantId, action: "not valid", actor: {} },
			],
		});
		expect(batch.results.map(({ result }) => result.case)).toEqual(["written", "error"]);

		const { event } = await client.getEvent({ tenantId, id: eventId });
		expect(event).toMatchObject({ tenantId, action: "user.login", severity: Severity.SECURITY, metadata });
		const page = await client.query({ tenantId, severities: [Severity.SECURITY] });
		expect(page.events.map(({ id }) => id)).toEqual([eventId]);
		const all = await client.query({ tenantId });
		expect(all.events.map(({ action }) => action).sort()).toEqual(["audit.log.created", "user.login", "user.logout"]);
	});
});

async function gzipped(bytes: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
	const stream = new Blob([bytes as Uint8Array<ArrayBuffer>]).stream().pipeThrough(new CompressionStream("gzip"));
	return new Uint8Array(await new Response(stream).arrayBuffer());
}

function notNeeded(): never {
	throw new Error("the client asked for no compressed answers");
}
