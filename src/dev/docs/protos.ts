import { execFileSync } from "node:child_process";
import {
	createFileRegistry,
	type DescEnum,
	type DescField,
	type DescMessage,
	type DescService,
	fromBinary,
	getOption,
	hasOption,
	ScalarType,
} from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { getComments } from "@bufbuild/protoplugin";
import { type FieldRules, field as fieldRules } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

/** What of the protos is documented: our own package, in the order of the files. */
export interface Protos {
	readonly services: readonly DescService[];
	/** Requests and responses aside, which stand with their RPC. */
	readonly messages: readonly DescMessage[];
	readonly enums: readonly DescEnum[];
}

/** Reads the protos with their comments, by buf: the generated code has none. @param folder where the protos are */
export function readProtos(folder: string): Protos {
	const image = execFileSync("buf", ["build", folder, "--as-file-descriptor-set", "-o", "-"], {
		maxBuffer: 64 * 1024 * 1024,
	});
	const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, image));
	const own = [...registry.files].filter(({ proto }) => proto.package.startsWith("audit."));
	const services = own.flatMap((file) => file.services);
	const ofCalls = new Set(services.flatMap(({ methods }) => methods.flatMap(({ input, output }) => [input, output])));
	return {
		services,
		messages: own.flatMap((file) => file.messages).filter((message) => !ofCalls.has(message)),
		enums: own.flatMap((file) => file.enums),
	};
}

/** The comment above a declaration, as Markdown: lines of a paragraph joined, paragraphs and tables kept. */
export function commentOf(desc: Parameters<typeof getComments>[0]): string {
	const text = (getComments(desc).leading ?? "").replace(/^ /gm, "").trim();
	return text
		.split(/\n\s*\n/)
		.map((paragraph) => (/^\s*[|*-]/m.test(paragraph) ? paragraph : paragraph.replace(/\s*\n\s*/g, " ")))
		.join("\n\n");
}

/** The rules protovalidate has for a field. */
export function rulesOf(field: DescField): FieldRules | undefined {
	return hasOption(field, fieldRules) ? getOption(field, fieldRules) : undefined;
}

/** Whether a message without this field is refused. */
export function isRequired(field: DescField): boolean {
	const rules = rulesOf(field);
	if (!rules) return false;
	if (rules.required) return true;
	if (field.fieldKind === "list") return (rules.type.case === "repeated" ? rules.type.value.minItems : 0n) > 0n;
	if (rules.ignore || field.scalar !== ScalarType.STRING || rules.type.case !== "string") return false;
	const { minBytes, minLen, pattern, wellKnown } = rules.type.value;
	return minBytes > 0n || minLen > 0n || wellKnown.case === "uuid" || (pattern !== "" && !new RegExp(pattern).test(""));
}
