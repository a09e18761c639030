import { type DescEnum, type DescField, type DescMessage, type DescMethod, ScalarType } from "@bufbuild/protobuf";
import { STATUS } from "../../rpc/rest-response.ts";
import { REST_ROUTES } from "../../rpc/rest-routes.ts";
import { commentOf, isRequired, type Protos } from "./protos.ts";

/** The API reference as Markdown: services, then what they speak of. All words are the protos' own comments. */
export function apiReference({ services, messages, enums }: Protos): string {
	const parts = [
		"# API reference",
		"Every RPC, message and value, from the comments in [`proto/audit/v1`](../proto/audit/v1) (`make docs`). RPCs are spoken over gRPC, gRPC-Web and Connect on either port; what has a REST route says so, and [openapi.json](openapi.json) describes those. `Authorization: Bearer al_…` goes with every call.",
		services.map(({ name }) => `- [${name}](#${name.toLowerCase()})`).join("\n"),
	];
	for (const service of services) {
		parts.push(`## ${service.name}`, `\`${service.typeName}\``, commentOf(service));
		for (const method of service.methods) parts.push(...methodParts(method));
	}
	parts.push("## Messages");
	for (const message of messages) parts.push(`### ${message.name}`, commentOf(message), fieldTable(message));
	parts.push("## Enums");
	for (const desc of enums) parts.push(`### ${desc.name}`, commentOf(desc), valueTable(desc));
	parts.push("## Errors", ERRORS, statusTable());
	return `${parts.filter(Boolean).join("\n\n")}\n`;
}

function methodParts(method: DescMethod): string[] {
	const routes = REST_ROUTES.filter(({ rpc }) => rpc === method.localName);
	const rest = routes.map((route) => ` · REST \`${route.method} ${route.path}\``).join("");
	const stream = method.methodKind === "unary" ? "" : ` · ${method.methodKind.replace("_", " ")}`;
	return [
		`### ${method.name}`,
		`\`/${method.parent.typeName}/${method.name}\`${stream}${rest}`,
		commentOf(method),
		`**${method.input.name}**: ${withoutReference(commentOf(method.input))}`.replace(/: $/, ""),
		fieldTable(method.input),
		`**${method.output.name}**: ${withoutReference(commentOf(method.output))}`.replace(/: $/, ""),
		fieldTable(method.output),
	];
}

/** Requests say which RPC they belong to; here they stand below it. */
function withoutReference(comment: string): string {
	return comment.replace(/^See \w+\.\w+\.\s*/, "");
}

function fieldTable({ fields }: DescMessage): string {
	if (fields.length === 0) return "It has no fields.";
	return table(
		["Field", "Type", "Meaning"],
		fields.map((field) => [`\`${field.name}\``, typeOf(field), commentOf(field)]),
	);
}

function typeOf(field: DescField): string {
	const list = field.fieldKind === "list" ? "list of " : "";
	const note = isRequired(field) ? ", required" : field.oneof ? `, one of \`${field.oneof.name}\`` : "";
	const named = field.message ?? field.enum;
	if (!named) return `${list}${ScalarType[field.scalar ?? 0]?.toLowerCase()}${note}`;
	const isOwn = named.typeName.startsWith("audit.");
	return `${list}${isOwn ? `[${named.name}](#${headingOf(named)})` : named.name}${note}`;
}

/** Where a message or enum is told: requests and responses stand below their RPC. */
function headingOf(named: DescMessage | DescEnum): string {
	const methods = named.file.services.flatMap((service) => service.methods);
	const method = methods.find(({ input, output }) => input === named || output === named);
	return (method ?? named).name.toLowerCase();
}

function valueTable({ values }: DescEnum): string {
	return table(
		["Value", "Number", "Meaning"],
		values.map((value) => [`\`${value.name}\``, String(value.number), commentOf(value)]),
	);
}

function statusTable(): string {
	return table(
		["Code", "HTTP status of REST"],
		Object.entries(STATUS).map(([code, status]) => [`\`${code}\``, String(status)]),
	);
}

const ERRORS =
	'Every error has a canonical code, a stable `reason` for programs (`google.rpc.ErrorInfo`), a message that says what to change, all violations by field path (`google.rpc.BadRequest`) and, where a retry may help, the time to wait (`google.rpc.RetryInfo`). REST has the same as `{"error":{…}}`.';

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
	const line = (cells: readonly string[]) => `| ${cells.map(cell).join(" | ")} |`;
	return [line(head), `|${"---|".repeat(head.length)}`, ...rows.map(line)].join("\n");
}

function cell(text: string): string {
	return text.replaceAll("|", "\\|").replace(/\s*\n+\s*/g, " ");
}
