import type { Config, Port } from "../config.ts";
import type { RunningServer } from "../server.ts";
import type { Demo } from "./demo-tenants.ts";
import type { Nats } from "./nats.ts";

export interface SummaryOptions {
	config: Config;
	server: RunningServer;
	demo: Demo;
	/** Our own nats-server, or why there is none; undefined: the environment names one. */
	nats: Nats | { unavailable: string } | undefined;
	dataDir: string;
	tookMs: number;
}

/** Where our own nats-server is to be found, unless somebody else is there. */
export const NATS_PORT = 4222;

/** What a person reads when `make run` is up: where everything is, the keys, and commands to paste. */
export function summary(options: SummaryOptions): string {
	const { server, demo, dataDir, tookMs } = options;
	const [acme, globex] = demo.tenants;
	return `
Audit Log is up, after ${(tookMs / 1000).toFixed(1)} s.

  HTTP     ${server.httpUrl}   Connect, gRPC, gRPC-Web and REST${portNote(server.httpUrl, options.config.httpPort)}
  gRPC     ${server.grpcUrl}${portNote(server.grpcUrl, options.config.grpcPort)}
  NATS     ${natsLine(options)}
  Data     ${dataDir}   (kept; remove the folder to begin anew)

  Tenant   ${acme.name}, id ${acme.id}
  writer   ${acme.writerKey}
  reader   ${acme.readerKey}

  Tenant   ${globex.name}, id ${globex.id}
  writer   ${globex.writerKey}
  reader   ${globex.readerKey}

  Operator of all tenants
  admin    ${demo.adminKey}

Write an event of ${acme.name}'s, and read it:

  curl -sS ${server.httpUrl}/v1/audit/events -H 'Authorization: Bearer ${acme.writerKey}' \\
    -H 'Content-Type: application/json' -d '${example("curl")}'

  curl -sS '${server.httpUrl}/v1/audit/events?actions=user.login' -H 'Authorization: Bearer ${acme.readerKey}'

The same over gRPC:

  npx buf curl --protocol grpc --http2-prior-knowledge -H 'Authorization: Bearer ${acme.readerKey}' \\
    -d '{"actions":["user.login"]}' ${server.grpcUrl}/audit.v1.AuditService/Query
${natsExample(options.config, globex.id)}
All of this is in ${dataDir}/dev.json too. Ctrl-C stops everything in order.

`;
}

function example(door: string): string {
	return `{"action":"user.login","actor":{"type":"ACTOR_TYPE_USER","id":"ada"},"source":"${door}"}`;
}

function portNote(url: string, { number, explicit }: Port): string {
	return explicit || new URL(url).port === String(number) ? "" : `   (port ${number} is taken)`;
}

function natsLine({ config, server, nats }: SummaryOptions): string {
	if (nats && "unavailable" in nats) return `not running: this door is closed. ${nats.unavailable}`;
	const status = server.natsDoor?.status();
	const url = withoutPassword(config.nats?.url);
	if (status?.state !== "up") return `${url}   not reached yet, tried again until it is: ${status?.reason}`;
	const note = nats ? portNote(nats.url, { number: NATS_PORT, explicit: false }) : "";
	return `${url}${note}   ${SYNC[nats ? (nats.syncAlways ? "always" : "periodic") : status.sync]}`;
}

/** What a publisher may rely on: whether an acknowledged message survives a power cut. */
const SYNC = {
	always: "JetStream; a message is on disk before it is acknowledged",
	periodic:
		"JetStream; it acknowledges before it syncs to disk, so a power cut can lose messages\n" +
		"           (nats-server 2.10 or newer can sync first: `sync_interval: always`)",
	unknown: "JetStream; it does not say whether it syncs to disk before it acknowledges",
};

function withoutPassword(natsUrl = ""): string {
	return natsUrl.replaceAll(/\/\/[^@/,]*@/g, "//");
}

function natsExample({ nats }: Config, tenantId: string): string {
	if (nats === undefined) return "";
	const publish = `const nc = await connect({ servers: "${withoutPassword(nats.url)}" }); console.log(await nc.jetstream().publish("audit.events.${tenantId}", JSON.stringify(${example("nats")}))); await nc.close()`;
	return `
Publish one over NATS (subject audit.events.<tenant>):

  node --input-type=module -e 'import { connect } from "nats"; ${publish}'
`;
}
