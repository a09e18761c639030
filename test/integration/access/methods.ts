import { fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { ServerReflection, type ServerReflectionResponse } from "../../../src/gen/grpc/reflection/v1/reflection_pb.ts";

/** Every method of every service, `package.Service/Method`, as the service itself tells. */
export async function methodsBy(grpcUrl: string): Promise<string[]> {
	const client = createClient(ServerReflection, createGrpcTransport({ baseUrl: grpcUrl }));
	const ask = async (messageRequest: { case: "listServices" | "fileContainingSymbol"; value: string }) => {
		async function* question() {
			yield { messageRequest };
		}
		for await (const answer of client.serverReflectionInfo(question())) return answer.messageResponse;
		throw new Error("reflection answered nothing");
	};
	const listed = await ask({ case: "listServices", value: "" });
	if (listed.case !== "listServicesResponse") throw new Error(`reflection answered ${listed.case}`);
	const names = listed.value.service.map(({ name }) => name);
	const methods = await Promise.all(
		names.map(async (name) => methodsOf(name, await ask({ case: "fileContainingSymbol", value: name }))),
	);
	return methods.flat();
}

function methodsOf(service: string, answer: ServerReflectionResponse["messageResponse"]): string[] {
	if (answer.case !== "fileDescriptorResponse") throw new Error(`${service} is listed and not described`);
	const files = answer.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
	return files.flatMap((file) =>
		file.service
			.filter(({ name }) => `${file.package}.${name}` === service)
			.flatMap(({ method }) => method.map(({ name }) => `${service}/${name}`)),
	);
}
