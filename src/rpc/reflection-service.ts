import { type AnyDesc, type DescExtension, type DescFile, type DescService, toBinary } from "@bufbuild/protobuf";
import { nestedTypes } from "@bufbuild/protobuf/reflect";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { AuditError } from "../errors.ts";
import type { ServerReflectionRequest } from "../gen/grpc/reflection/v1/reflection_pb.ts";
import type { ServerReflectionRequest as AlphaRequest } from "../gen/grpc/reflection/v1alpha/reflection_pb.ts";

/** Both versions have the same messages under other names. */
type Question = ServerReflectionRequest | AlphaRequest;
type Answer =
	| { case: "fileDescriptorResponse"; value: { fileDescriptorProto: Uint8Array<ArrayBuffer>[] } }
	| { case: "allExtensionNumbersResponse"; value: { baseTypeName: string; extensionNumber: number[] } }
	| { case: "listServicesResponse"; value: { service: { name: string }[] } }
	| { case: "errorResponse"; value: { errorCode: number; errorMessage: string } };

/** A stream needs no key and may stay: so few that the calls of all others have room, and their answers no great size. */
const STREAMS = 100;

/** gRPC's numbers, as `ErrorResponse` wants them. */
const STATUS = { invalidArgument: 3, notFound: 5 } as const;

/**
 * grpc.reflection.v1 and v1alpha: tells clients without our protos what there is to call, and of which types. Describes the
 * services given and whatever they need, and nothing else.
 */
export class ReflectionService {
	readonly #services: () => readonly DescService[];
	#index: Index | undefined;
	#streams = 0;

	/** @param services those that are served, known once all are added */
	constructor(services: () => readonly DescService[]) {
		this.#services = services;
	}

	/**
	 * One stream: a file that was sent on it is not sent again along with another.
	 *
	 * @throws AuditError `resource_exhausted`
	 */
	async *answers<Q extends Question>(questions: AsyncIterable<Q>) {
		if (this.#streams >= STREAMS) {
			throw new AuditError("resource_exhausted", "too many callers ask for the services there are; try again", {
				reason: "TOO_MANY_STREAMS",
				retryAfterMs: 1_000,
			});
		}
		this.#streams += 1;
		try {
			const sent = new Set<string>();
			for await (const question of questions) {
				yield { validHost: question.host, originalRequest: question, messageResponse: this.#answer(question, sent) };
			}
		} finally {
			this.#streams -= 1;
		}
	}

	#answer({ messageRequest }: Question, sent: Set<string>): Answer {
		this.#index ??= indexOf(this.#services());
		const { files, symbols, extensions } = this.#index;
		switch (messageRequest.case) {
			case "listServices": {
				const names = new Set(this.#services().map(({ typeName }) => typeName));
				return { case: "listServicesResponse", value: { service: [...names].sort().map((name) => ({ name })) } };
			}
			case "fileByFilename":
				return describe(files.get(messageRequest.value), "file", sent);
			case "fileContainingSymbol":
				return describe(symbols.get(messageRequest.value), "symbol", sent);
			case "fileContainingExtension": {
				const { containingType, extensionNumber } = messageRequest.value;
				return describe(extensions.get(containingType)?.get(extensionNumber)?.file, "extension", sent);
			}
			case "allExtensionNumbersOfType": {
				const extensionNumber = [...(extensions.get(messageRequest.value)?.keys() ?? [])];
				if (!symbols.has(messageRequest.value)) return failed(STATUS.notFound, "there is no such type");
				const value = { baseTypeName: messageRequest.value, extensionNumber };
				return { case: "allExtensionNumbersResponse", value };
			}
			case undefined:
				return failed(STATUS.invalidArgument, "the request asks for nothing");
		}
	}
}

interface Index {
	readonly files: ReadonlyMap<string, DescFile>;
	/** Services, methods, messages, fields, oneofs, enums, values and extensions, by full name. */
	readonly symbols: ReadonlyMap<string, DescFile>;
	/** By the type they extend and their number. */
	readonly extensions: ReadonlyMap<string, ReadonlyMap<number, DescExtension>>;
}

function indexOf(services: readonly DescService[]): Index {
	const files = new Map<string, DescFile>();
	for (const { file } of services) for (const one of withDependencies(file)) files.set(one.proto.name, one);
	const symbols = new Map<string, DescFile>();
	const extensions = new Map<string, Map<number, DescExtension>>();
	for (const file of files.values()) {
		for (const type of nestedTypes(file)) {
			for (const name of namesIn(type)) symbols.set(name, file);
			if (type.kind !== "extension") continue;
			const { typeName } = type.extendee;
			extensions.set(typeName, (extensions.get(typeName) ?? new Map()).set(type.number, type));
		}
	}
	return { files, symbols, extensions };
}

/** A file and all it needs, each after what it needs itself. */
function* withDependencies(file: DescFile, seen = new Set<string>()): Iterable<DescFile> {
	if (seen.has(file.proto.name)) return;
	seen.add(file.proto.name);
	for (const dependency of file.dependencies) yield* withDependencies(dependency, seen);
	yield file;
}

/** The full names a type brings: its own and its members'. An enum's values are named beside it, not inside. */
function namesIn(type: Exclude<AnyDesc, DescFile>): string[] {
	if (!("typeName" in type)) return [];
	const { typeName } = type;
	const within = (members: readonly { name: string }[]) => members.map(({ name }) => `${typeName}.${name}`);
	if (type.kind === "message")
		return [typeName, ...within(type.members), ...within(type.oneofs.flatMap((o) => o.fields))];
	if (type.kind === "service") return [typeName, ...within(type.methods)];
	if (type.kind !== "enum") return [typeName];
	const scope = typeName.slice(0, typeName.lastIndexOf(".") + 1);
	return [typeName, ...type.values.map(({ name }) => scope + name)];
}

function describe(file: DescFile | undefined, what: string, sent: Set<string>): Answer {
	if (!file) return failed(STATUS.notFound, `there is no such ${what}`);
	const news = [...withDependencies(file)].filter((one) => one === file || !sent.has(one.proto.name));
	for (const { proto } of news) sent.add(proto.name);
	// The file that was asked for comes first.
	const fileDescriptorProto = news.reverse().map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto));
	return { case: "fileDescriptorResponse", value: { fileDescriptorProto } };
}

function failed(errorCode: number, errorMessage: string): Answer {
	return { case: "errorResponse", value: { errorCode, errorMessage } };
}
