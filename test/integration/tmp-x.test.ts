import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { test } from "vitest";
import { AuditService } from "../../src/gen/audit/v1/audit_service_pb.ts";
import { startRpcService } from "../support/rpc-service.ts";
test("x", async () => {
	for (const [name, make] of Object.entries({ grpc: (s: any) => createGrpcTransport({ baseUrl: s.grpcUrl }), h1: (s: any) => createConnectTransport({ baseUrl: s.httpUrl, httpVersion: "1.1" }) }))
	for (const n of [1, 100, 390, 2000]) {
		const s = await startRpcService();
		const client = createClient(AuditService, make(s));
		await client.batchWrite({ events: Array(n).fill({ description: "x".repeat(10_000) }) }).catch((e) => console.log(name, n, e.message));
		const t = performance.now();
		await s.end();
		console.log(name, n, "end", performance.now() - t);
	}
}, 200_000);
test("concurrent large", async () => {
	const s = await startRpcService();
	const key = await s.createKey("operator", "all");
	const t = createGrpcTransport({ baseUrl: s.grpcUrl, nodeOptions: { maxSessionMemory: 1000 }, interceptors: [(next) => (req) => { req.header.set("x-api-key", key); return next(req); }] });
	const client = createClient(AuditService, t);
	const events = Array.from({ length: 500 }, () => ({ tenantId: "big", action: "a.b", actor: { id: "x" }, description: "y".repeat(4000), reason: "z".repeat(3000) }));
	const results = await Promise.allSettled(Array.from({ length: 12 }, () => client.batchWrite({ events })));
	console.log("writes", results.map((r) => r.status === "fulfilled" ? "ok" : (r.reason as Error).message).join(" | "));
	const reads = await Promise.allSettled(Array.from({ length: 60 }, () => client.query({ tenantId: "big", pageSize: 1000 })));
	const tally: Record<string, number> = {};
	for (const r of reads) { const k = r.status === "fulfilled" ? "ok" + r.value.events.length : (r.reason as Error).message; tally[k] = (tally[k] ?? 0) + 1; }
	console.log("reads", tally);
	await s.end();
}, 200_000);
