import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { createFileRegistry, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AuditService } from "../../src/gen/audit/v1/audit_service_pb.ts";
import {
	ServerReflection,
	type ServerReflectionRequestSchema,
	type ServerReflectionResponse,
} from "../../src/gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as Alpha } from "../../src/gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { type RpcService, startRpcService } from "../support/rpc-service.ts";

let service: RpcService;
let key: string;

beforeAll(async () => {
	service = await startRpcService();
	key = await service.createKey("operator", "all");
});
afterAll(() => service.end());

type Question = NonNullable<MessageInitShape<typeof ServerReflectionRequestSchema>["messageRequest"]>;

/** One stream: asks a question only when the one before it is answered. */
function ask(baseUrl: string, version: typeof ServerReflection | typeof Alpha) {
	const questions: Question[] = [];
	let wake = () => {};
	let over = false;
	async function* sent() {
		while (!over) {
			const question = questions.shift();
			if (question) yield { host: "here", messageRequest: question };
			else await new Promise<void>((resolve) => (wake = resolve));
		}
	}
	const client = createClient(version as typeof ServerReflection, createGrpcTransport({ baseUrl }));
	const answers = client.serverReflectionInfo(sent())[Symbol.asyncIterator]();
	return {
		async ask(question: Question): Promise<ServerReflectionResponse> {
			questions.push(question);
			wake();
			return (await answers.next()).value;
		},
		async end() {
			over = true;
			wake();
			expect((await answers.next()).done).toBe(true);
		},
	};
}

function filesIn({ messageResponse }: ServerReflectionResponse): string[] {
	if (messageResponse.case !== "fileDescriptorResponse") throw new Error(JSON.stringify(messageResponse));
	return messageResponse.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes).name);
}

describe.each([
	["v1 on 8080", "httpUrl", ServerReflection],
	["v1alpha on 8080", "httpUrl", Alpha],
	["v1 on 50051", "grpcUrl", ServerReflection],
	["v1alpha on 50051", "grpcUrl", Alpha],
] as const)("reflection %s, without a key", (_, port, version) => {
	test("describes every service it lists, whole: the types can be built from it", async () => {
		const stream = ask(service[port], version);
		const { messageResponse, validHost, originalRequest } = await stream.ask({ case: "listServices", value: "*" });
		expect(validHost).toBe("here");
		expect(originalRequest?.messageRequest).toEqual({ case: "listServices", value: "*" });
		if (messageResponse.case !== "listServicesResponse") throw new Error(messageResponse.case);
		const names = messageResponse.value.service.map(({ name }) => name);
		expect(names).toEqual(expect.arrayContaining([AuditService.typeName, "grpc.health.v1.Health", version.typeName]));
		for (const name of names) {
			const one = ask(service[port], version);
			const { messageResponse } = await one.ask({ case: "fileContainingSymbol", value: name });
			if (messageResponse.case !== "fileDescriptorResponse") throw new Error(`${name} is listed and not described`);
			const file = messageResponse.value.fileDescriptorProto.map((b) => fromBinary(FileDescriptorProtoSchema, b));
			const registry = createFileRegistry({ $typeName: FileDescriptorSetSchema.typeName, file: file.reverse() });
			expect(registry.getService(name)?.methods.length).toBeGreaterThan(0);
			await one.end();
		}
		await stream.end();
	});

	test("finds files by name, symbols of every kind, and extensions", async () => {
		const stream = ask(service[port], version);
		const first = filesIn(await stream.ask({ case: "fileByFilename", value: "audit/v1/event.proto" }));
		expect(first[0]).toBe("audit/v1/event.proto");
		expect(first).toContain("google/protobuf/struct.proto");
		// What was sent on a stream is not sent again, but for what is asked for.
		const symbols = ["Event", "Event.actor", "CATEGORY_AUTH", "Category", "AuditService.Query", "QueryRequest"];
		for (const symbol of symbols) {
			const files = filesIn(await stream.ask({ case: "fileContainingSymbol", value: `audit.v1.${symbol}` }));
			const isEvent = ["Event", "Event.actor", "CATEGORY_AUTH", "Category"].includes(symbol);
			expect(files).toEqual([isEvent ? "audit/v1/event.proto" : "audit/v1/audit_service.proto"]);
		}
		const extendee = "google.protobuf.FieldOptions";
		const numbers = await stream.ask({ case: "allExtensionNumbersOfType", value: extendee });
		expect(numbers.messageResponse.value).toMatchObject({
			baseTypeName: extendee,
			extensionNumber: expect.arrayContaining([1159]),
		});
		const extension = { containingType: extendee, extensionNumber: 1159 };
		expect(filesIn(await stream.ask({ case: "fileContainingExtension", value: extension }))).toEqual([
			"buf/validate/validate.proto",
		]);
		await stream.end();
	});

	test("answers what it does not know with an error, and goes on", async () => {
		const stream = ask(service[port], version);
		const missing: Question[] = [
			{ case: "fileByFilename", value: "etc/passwd" },
			{ case: "fileContainingSymbol", value: "audit.v1.Nobody" },
			{ case: "fileContainingExtension", value: { containingType: "audit.v1.Event", extensionNumber: 1 } },
			{ case: "allExtensionNumbersOfType", value: "audit.v1.Nobody" },
		];
		for (const question of missing) {
			const { messageResponse } = await stream.ask(question);
			expect(messageResponse).toMatchObject({ case: "errorResponse", value: { errorCode: 5 } });
		}
		const { messageResponse } = await stream.ask({ case: undefined });
		expect(messageResponse).toMatchObject({ case: "errorResponse", value: { errorCode: 3 } });
		await stream.end();
	});
});

const buf = async (...args: string[]) => {
	const command = join(import.meta.dirname, "../../node_modules/.bin/buf");
	return (await promisify(execFile)(command, ["curl", "--http2-prior-knowledge", ...args])).stdout;
};

describe.each(["httpUrl", "grpcUrl"] as const)("buf curl, which knows no schema, at %s", (port) => {
	test.each(["grpc-v1", "grpc-v1alpha"])("lists the services by %s", async (protocol) => {
		const listed = await buf("--reflect-protocol", protocol, "--protocol", "grpc", "--list-services", service[port]);
		expect(listed.split("\n")).toEqual(expect.arrayContaining(["audit.v1.AuditService", "grpc.health.v1.Health"]));
	});

	test("writes an event, and asks for the service's health", async () => {
		const event = { tenantId: "acme", action: "user.login", actor: { id: "jane" } };
		const call = ["--protocol", "grpc", "-H", `Authorization: Bearer ${key}`, "-d", JSON.stringify({ event })];
		const written = JSON.parse(await buf(...call, `${service[port]}/audit.v1.AuditService/WriteEvent`));
		expect(written).toMatchObject({ eventId: expect.any(String), receipt: { batchId: expect.any(String) } });
		const health = await buf("--protocol", "grpc", "-d", "{}", `${service[port]}/grpc.health.v1.Health/Check`);
		expect(JSON.parse(health)).toEqual({ status: "SERVING" });
	});
});
