import type { DescMethod, DescService } from "@bufbuild/protobuf";
import type { ConnectRouter } from "@connectrpc/connect";
import { Health } from "../gen/grpc/health/v1/health_pb.ts";
import { ServerReflection } from "../gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as ServerReflectionAlpha } from "../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { HealthService } from "./health-service.ts";
import { ReflectionService } from "./reflection-service.ts";
import type { Readiness } from "./route-health.ts";

const OPEN: ReadonlySet<string> = new Set([Health, ServerReflection, ServerReflectionAlpha].map((s) => s.typeName));

/** Whether a service needs no key: it tells nothing of any tenant. */
export function isOpen(service: DescService): boolean {
	return OPEN.has(service.typeName);
}

/** What an RPC is called in logs, metrics and traces. */
export function nameOf({ service, method }: { service: DescService; method: DescMethod }): string {
	return isOpen(service) ? `${service.typeName}/${method.name}` : method.name;
}

/** One message of a request to them: a name. They need no key, so they get no room either. */
export const OPEN_REQUEST_BYTES = 4 * 1024;

/**
 * Adds health and reflection, for all services the router has in the end.
 *
 * @returns `close`: not serving from now on; the streams of those who watch end
 */
export function addOpenServices(router: ConnectRouter, readiness: () => Promise<Readiness>): { close(): void } {
	const services = () => [...new Set(router.handlers.map(({ service }) => service))];
	const health = new HealthService({ readiness, services: () => new Set(services().map(({ typeName }) => typeName)) });
	const reflection = new ReflectionService(services);
	const options = { readMaxBytes: OPEN_REQUEST_BYTES };
	router.service(Health, health, options);
	router.service(ServerReflection, { serverReflectionInfo: (questions) => reflection.answers(questions) }, options);
	router.service(
		ServerReflectionAlpha,
		{ serverReflectionInfo: (questions) => reflection.answers(questions) },
		options,
	);
	return health;
}
