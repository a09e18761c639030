import type { ClientHttp2Session } from "node:http2";
import { Client } from "pg";
import type { Nats } from "../../../src/dev/nats.ts";
import type { Violation } from "../../../src/errors.ts";
import { checkTrail } from "../../support/check-trail.ts";
import { type NatsClient, type Outgoing, openNatsClient, untilDrained } from "../../support/nats-client.ts";
import { type RpcService, startRpcService } from "../../support/rpc-service.ts";
import { startOwnNats, testSecret, waitFor } from "../../support/services.ts";
import { AUDIENCE, ISSUER, makeSigningKey, type SigningKey, startJwksServer } from "../../support/token-issuer.ts";
import { openGrpc } from "./doors.ts";

/** One running service with all its doors, for everything bad that is sent in. */
export interface World {
	readonly service: RpcService;
	readonly httpUrl: string;
	/** A session that is open: a new one when the service has ended the last, as it does after five minutes without a call. */
	readonly grpc: ClientHttp2Session;
	readonly nats: Nats;
	readonly natsClient: NatsClient;
	readonly admin: Client;
	/** May do everything with every tenant. */
	readonly key: string;
	/** Signs tokens that are believed. */
	readonly signing: SigningKey;
	/** Publishes and waits until all are dealt with. @returns for each message what became of its events that are none */
	publish(messages: readonly Outgoing[]): Promise<DeadLetter[][]>;
	/** Fails unless the service lives and its trail verifies; then stops everything. */
	end(): Promise<void>;
}

export interface DeadLetter {
	readonly stream_seq: string;
	readonly position: number;
	readonly reason: string;
	readonly message: string;
	readonly violations: Violation[];
}

export async function openWorld(): Promise<World> {
	const nats = await startOwnNats();
	const signing = makeSigningKey("k1", "RS256");
	const issuer = await startJwksServer(signing);
	const tokens = { AUDIT_JWT_ISSUER: ISSUER, AUDIT_JWT_AUDIENCE: AUDIENCE, AUDIT_JWT_JWKS_URL: issuer.url };
	const service = await startRpcService({ natsUrl: nats.url, env: tokens });
	await waitFor(() => service.natsDoor?.status().state === "up", { what: "the NATS door" });
	const natsClient = await openNatsClient(nats.url);
	const admin = new Client({ connectionString: service.database.url });
	await admin.connect();
	let grpc = openGrpc(service.grpcUrl);
	return {
		service,
		httpUrl: service.httpUrl,
		get grpc() {
			if (grpc.closed || grpc.destroyed) grpc = openGrpc(service.grpcUrl);
			return grpc;
		},
		nats,
		natsClient,
		admin,
		key: await service.createKey("operator", "all"),
		signing,
		async publish(messages) {
			const acks = await natsClient.publish(messages);
			await untilDrained(natsClient);
			const { rows } = await admin.query<DeadLetter>(
				`SELECT stream_seq, position, reason, message, violations FROM audit.dead_letters
				 WHERE stream_seq = ANY($1) ORDER BY stream_seq, position`,
				[acks.map(({ seq }) => seq)],
			);
			const bySeq = Map.groupBy(rows, ({ stream_seq }) => stream_seq);
			return acks.map(({ seq }) => bySeq.get(String(seq)) ?? []);
		},
		async end() {
			const { status } = await fetch(`${service.httpUrl}/livez`);
			if (status !== 200) throw new Error(`the service is not alive: ${status}`);
			grpc.close();
			await natsClient.close();
			await checkTrail({ databaseUrl: service.database.url, secret: testSecret() });
			await admin.end();
			await service.end();
			await nats.stop();
			await issuer.stop();
		},
	};
}
