/**
 * Prints buf/validate/validate.proto from the descriptor inside @bufbuild/protovalidate, which ships no .proto file.
 * Structure only: the CEL rules inside the `predefined` options are left out; protovalidate uses its own descriptor.
 * Run by `make proto`; `make check` fails when the committed file differs.
 */
import { type DescEnum, type DescExtension, type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { FieldDescriptorProto_Label } from "@bufbuild/protobuf/wkt";
import { file_buf_validate_validate as file } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

const lines: string[] = [];
const put = (depth: number, text: string) => lines.push(`${"  ".repeat(depth)}${text}`);

put(0, "// Printed from the descriptor inside the npm package @bufbuild/protovalidate (Apache-2.0) by `make proto`.");
put(0, 'syntax = "proto2";');
put(0, "");
put(0, `package ${file.proto.package};`);
put(0, "");
for (const dependency of file.proto.dependency) put(0, `import "${dependency}";`);
for (const extension of file.extensions) printExtension(extension);
for (const message of file.messages) printMessage(message, 0);
for (const enumeration of file.enums) printEnum(enumeration, 0);
process.stdout.write(`${lines.join("\n")}\n`);

function printMessage(message: DescMessage, depth: number) {
	put(depth, "");
	put(depth, `message ${message.name} {`);
	for (const field of message.fields) if (!field.oneof) printField(field, depth + 1);
	for (const oneof of message.oneofs) {
		put(depth + 1, `oneof ${oneof.name} {`);
		for (const field of oneof.fields) printField(field, depth + 2);
		put(depth + 1, "}");
	}
	for (const range of message.proto.extensionRange) {
		const end = range.end === 536870912 ? "max" : String((range.end ?? 0) - 1);
		put(depth + 1, `extensions ${range.start} to ${end};`);
	}
	for (const reserved of message.proto.reservedRange) put(depth + 1, `reserved ${reserved.start};`);
	for (const nested of message.nestedMessages) printMessage(nested, depth + 1);
	for (const nested of message.nestedEnums) printEnum(nested, depth + 1);
	put(depth, "}");
}

function printEnum(enumeration: DescEnum, depth: number) {
	put(depth, "");
	put(depth, `enum ${enumeration.name} {`);
	for (const value of enumeration.values) put(depth + 1, `${value.name} = ${value.number};`);
	put(depth, "}");
}

function printExtension(extension: DescExtension) {
	put(0, "");
	put(0, `extend ${extension.extendee.typeName} {`);
	printField(extension, 1);
	put(0, "}");
}

function printField(field: DescField | DescExtension, depth: number) {
	const label =
		field.kind === "field" && field.oneof
			? ""
			: field.proto.label === FieldDescriptorProto_Label.REPEATED
				? "repeated "
				: field.proto.label === FieldDescriptorProto_Label.REQUIRED
					? "required "
					: "optional ";
	put(depth, `${label}${typeName(field)} ${field.name} = ${field.number};`);
}

function typeName(field: DescField | DescExtension): string {
	if (field.message) return `.${field.message.typeName}`;
	if (field.enum) return `.${field.enum.typeName}`;
	return ScalarType[field.scalar ?? 0]?.toLowerCase() ?? "";
}
