import { type ClientHttp2Session, connect as connectHttp2, constants } from "node:http2";

/** What a door answered: all that a caller can tell apart. */
export interface Answer {
	/** HTTP status, and gRPC's where there is one. */
	readonly status: string;
	/** Everything that came: status, headers and trailers (without the clock's), body; details in base64 decoded too. */
	readonly text: string;
	/** The canonical code in lower case; "ok". */
	readonly code: string;
}

export interface Asked {
	/** `audit.v1.AuditService/Query`. */
	readonly rpc: string;
	readonly body: object;
	/** Headers that say who asks. */
	readonly credential: Readonly<Record<string, string>>;
}

/** One protocol, on connections of its own that every caller shares. */
export interface Door {
	readonly name: string;
	send(asked: Asked): Promise<Answer>;
	close(): void;
}

/** The same for every request: then nothing of the answers need be taken out before they are compared. */
const REQUEST_ID = "the-same-for-all";

export function openDoors({ httpUrl, grpcUrl }: { httpUrl: string; grpcUrl: string }): Door[] {
	const grpc = connectHttp2(grpcUrl);
	grpc.on("error", () => {});
	return [
		{ name: "Connect", send: (asked) => sendConnect(httpUrl, asked), close: () => {} },
		{ name: "gRPC-Web", send: (asked) => sendGrpcWeb(httpUrl, asked), close: () => {} },
		{ name: "gRPC", send: (asked) => sendGrpc(grpc, asked), close: () => grpc.close() },
	];
}

/** The RPCs whose answer is a stream: over Connect they are spoken otherwise. */
export const STREAMS: readonly string[] = ["audit.v1.AuditService/Export"];

async function sendConnect(url: string, asked: Asked): Promise<Answer> {
	if (STREAMS.includes(asked.rpc)) return sendConnectStream(url, asked);
	const { rpc, body, credential } = asked;
	return sendHttp(`${url}/${rpc}`, {
		method: "POST",
		headers: { "content-type": "application/json", ...credential },
		body: JSON.stringify(body),
	});
}

/** Errors are in the last message, as those of other RPCs are in the body. */
async function sendConnectStream(url: string, { rpc, body, credential }: Asked): Promise<Answer> {
	const response = await fetch(`${url}/${rpc}`, {
		method: "POST",
		headers: { "content-type": "application/connect+json", "x-request-id": REQUEST_ID, ...credential },
		body: enveloped(body) as BodyInit,
	});
	const messages = messagesIn(Buffer.from(await response.arrayBuffer()));
	const { error } = JSON.parse(messages.at(-1) ?? "{}") as { error?: { code: string } };
	const text = asText(response.status, [...response.headers], [...messages, ...messages.map(dataIn)].join("\n"));
	return { status: String(response.status), code: error?.code ?? "ok", text };
}

function messagesIn(bytes: Buffer): string[] {
	const messages: string[] = [];
	for (let at = 0; at < bytes.length; ) {
		const end = at + 5 + bytes.readUInt32BE(at + 1);
		messages.push(bytes.toString("utf8", at + 5, end));
		at = end;
	}
	return messages;
}

/** Bytes travel in base64, of whatever length. */
function dataIn(message: string): string {
	const { chunk } = JSON.parse(message) as { chunk?: { data?: string } };
	return Buffer.from(chunk?.data ?? "", "base64").toString();
}

interface HttpRequest {
	readonly method: string;
	readonly headers: Readonly<Record<string, string>>;
	readonly body: string | null;
}

/** Any HTTP request whose errors are JSON: Connect's and REST's. */
export async function sendHttp(url: string, init: HttpRequest): Promise<Answer> {
	const response = await fetch(url, { ...init, headers: { "x-request-id": REQUEST_ID, ...init.headers } });
	const body = await response.text();
	const code = response.ok ? "ok" : codeIn(body);
	return { status: String(response.status), code, text: asText(response.status, [...response.headers], body) };
}

/** Connect has the code at the top, REST under `error`. */
function codeIn(body: string): string {
	const json = JSON.parse(body) as { code?: string; error?: { code: string } };
	return json.code ?? json.error?.code ?? "none";
}

async function sendGrpcWeb(url: string, { rpc, body, credential }: Asked): Promise<Answer> {
	const response = await fetch(`${url}/${rpc}`, {
		method: "POST",
		headers: { "content-type": "application/grpc-web+json", "x-request-id": REQUEST_ID, ...credential },
		body: enveloped(body) as BodyInit,
	});
	const answer = Buffer.from(await response.arrayBuffer()).toString("latin1");
	const status = response.headers.get("grpc-status") ?? /grpc-status: ?(\d+)/.exec(answer)?.[1];
	const text = asText(response.status, [...response.headers], answer);
	return { status: `${response.status} ${status}`, code: nameOf(status), text };
}

async function sendGrpc(session: ClientHttp2Session, { rpc, body, credential }: Asked): Promise<Answer> {
	const stream = session.request({
		[constants.HTTP2_HEADER_METHOD]: "POST",
		[constants.HTTP2_HEADER_PATH]: `/${rpc}`,
		"content-type": "application/grpc+json",
		te: "trailers",
		"x-request-id": REQUEST_ID,
		...credential,
	});
	const headers: [string, string][] = [];
	const take = (more: object) => {
		for (const [name, value] of Object.entries(more)) headers.push([name, String(value)]);
	};
	stream.on("response", take).on("trailers", take);
	stream.end(enveloped(body));
	const chunks: Buffer[] = [];
	for await (const chunk of stream) chunks.push(chunk as Buffer);
	const status = headers.find(([name]) => name === "grpc-status")?.[1];
	return {
		status: String(status),
		code: nameOf(status),
		text: asText(200, headers, Buffer.concat(chunks).toString("latin1")),
	};
}

function enveloped(body: object): Uint8Array {
	const message = Buffer.from(JSON.stringify(body));
	const frame = Buffer.alloc(5 + message.length);
	frame.writeUInt32BE(message.length, 1);
	message.copy(frame, 5);
	return frame;
}

const CODES = {
	0: "ok",
	3: "invalid_argument",
	5: "not_found",
	6: "already_exists",
	7: "permission_denied",
	8: "resource_exhausted",
	9: "failed_precondition",
	12: "unimplemented",
	13: "internal",
	14: "unavailable",
	16: "unauthenticated",
} as Readonly<Record<string, string>>;

function nameOf(status: string | undefined): string {
	return CODES[status ?? ""] ?? `grpc-status ${status}`;
}

function asText(status: number, headers: readonly [string, string][], body: string): string {
	const kept = headers.filter(([name]) => name !== "date").map(([name, value]) => `${name}: ${value}`);
	const plain = [String(status), ...kept.sort(), "", body].join("\n");
	// Details travel in base64: what they hold is looked at too.
	const decoded = [...plain.matchAll(/[A-Za-z0-9+/_-]{24,}/g)].map(([text]) =>
		Buffer.from(text, "base64").toString("latin1"),
	);
	return [plain, ...decoded].join("\n");
}
