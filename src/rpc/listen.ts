import { setTimeout as sleep } from "node:timers/promises";
import type { Authenticator } from "../auth/authenticator.ts";
import type { Port } from "../config.ts";
import type { Logger } from "../logger.ts";
import { type Telemetry, value } from "../telemetry.ts";
import { AccessServiceCalls, type AccessServiceOptions } from "./access-service.ts";
import { AuditServiceCalls, type AuditServiceOptions } from "./audit-service.ts";
import type { Route } from "./call.ts";
import { CallLog } from "./call-log.ts";
import { ClientAddresses } from "./client-address.ts";
import { Connections } from "./connections.ts";
import { DeadLetterServiceCalls, type DeadLetterServiceOptions } from "./dead-letter-service.ts";
import { guard } from "./guard.ts";
import { DOOR_LIMITS, type DoorLimits } from "./limits.ts";
import type { Network } from "./network-settings.ts";
import { Origins } from "./origins.ts";
import { openPort } from "./port.ts";
import { Quota } from "./quota.ts";
import { RateLimits } from "./rate-limits.ts";
import { type Readiness, routeHealth, shareCheck } from "./route-health.ts";
import { routeMetrics } from "./route-metrics.ts";
import { routeNowhere, routeRest } from "./route-rest.ts";
import { routeRpcs } from "./route-rpcs.ts";
import { TenantServiceCalls, type TenantServiceOptions } from "./tenant-service.ts";
import type { TlsFiles } from "./tls-front.ts";

export interface ListenOptions
	extends AuditServiceOptions,
		Omit<DeadLetterServiceOptions, "reads">,
		TenantServiceOptions {
	readonly host: string;
	readonly httpPort: Port;
	readonly grpcPort: Port;
	readonly access: AccessServiceOptions;
	/** With it both ports speak TLS and nothing else. */
	readonly tls?: TlsFiles | undefined;
	readonly authenticator: Authenticator;
	readonly readiness: () => Promise<Readiness>;
	readonly telemetry: Telemetry;
	readonly logger: Logger;
	/** Whose word is taken for where a request comes from; default: nobody's. */
	readonly trustedProxies?: readonly Network[];
	/** The origins whose web pages may call; default: none. */
	readonly corsOrigins?: readonly string[];
	/** Where they are to differ from the usual ones. */
	readonly limits?: Partial<DoorLimits>;
}

export interface Doors {
	readonly httpUrl: string;
	readonly grpcUrl: string;
	/** Not ready from now on; after the notice no new connections; calls in flight finish, up to the drain time. */
	close(): Promise<void>;
}

/**
 * Opens the RPC door: on one port everything over HTTP/1.1 and HTTP/2, on the other the RPCs over HTTP/2.
 *
 * @throws Error with `code` EADDRINUSE and `port` if one of them is taken
 */
export async function listen(options: ListenOptions): Promise<Doors> {
	const { host, authenticator, telemetry, logger } = options;
	const limits = { ...DOOR_LIMITS, ...options.limits };
	const connections = new Connections({ ...limits, logger });
	const calls = new Quota(limits.calls, limits.callsPerAddress);
	const log = new CallLog(logger);
	const addresses = new ClientAddresses(options.trustedProxies ?? []);
	const origins = new Origins(options.corsOrigins ?? []);
	const stopping = new AbortController();
	let closing = false;
	const check = shareCheck(options.readiness);
	const readiness = async () => (closing ? SHUTTING_DOWN : check());
	const door = {
		readiness,
		calls: new AuditServiceCalls(options, new RateLimits(limits.rates)),
		deadLetters: new DeadLetterServiceCalls(options),
		access: new AccessServiceCalls(options.access),
		tenants: new TenantServiceCalls(options),
		authenticator,
		budgets: {
			requests: new Quota(limits.inFlightBytes, limits.inFlightBytesPerKey),
			answers: new Quota(limits.answerBytes, limits.answerBytesPerKey),
		},
		limits,
		stopping: stopping.signal,
	};
	const rpcs = routeRpcs(door);
	const others = [routeRest(door), routeHealth(readiness), routeMetrics(telemetry), routeNowhere];

	const open = (protocol: "any" | "http2", { number }: Port, route: Route) =>
		openPort({
			host,
			port: number,
			protocol,
			tls: options.tls,
			connections,
			limits,
			handle: guard(route, { log, telemetry, stalledMs: limits.stalledMs, calls, addresses, origins }),
		});
	const http = await open("any", options.httpPort, firstOf(rpcs.route, ...others));
	const grpc = await open("http2", options.grpcPort, firstOf(rpcs.route, routeNowhere)).catch(
		async (error: unknown) => {
			await http.close(0);
			throw error;
		},
	);
	telemetry.gauge("audit_in_flight_bytes", () => value(door.budgets.requests.taken));
	telemetry.gauge("audit_connections", () => [
		{ labels: { port: "http" } as const, value: http.connections() },
		{ labels: { port: "grpc" } as const, value: grpc.connections() },
	]);
	const close = async () => {
		closing = true;
		rpcs.close();
		const noticeMs = Math.min(limits.noticeMs, limits.drainMs);
		await sleep(noticeMs);
		stopping.abort();
		await Promise.all([http, grpc].map((port) => port.close(limits.drainMs - noticeMs)));
		log.close();
	};
	return { httpUrl: http.url, grpcUrl: grpc.url, close };
}

const SHUTTING_DOWN: Readiness = { ready: false, degraded: ["shutting down"] };

function firstOf(...routes: Route[]): Route {
	return (request, response, call) => {
		for (const route of routes) {
			const answer = route(request, response, call);
			if (answer) return answer;
		}
		return undefined;
	};
}
