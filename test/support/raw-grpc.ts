import { connect } from "node:http2";
import { buffer } from "node:stream/consumers";
import {
	create,
	type DescMethodUnary,
	fromBinary,
	type MessageInitShape,
	type MessageShape,
	toBinary,
} from "@bufbuild/protobuf";

/** What a gRPC call was answered with, to the last byte: headers, body and trailers as text, and the message in it. */
export interface RawAnswer<O> {
	readonly text: string;
	readonly message: O | undefined;
}

/** Calls an RPC over gRPC without any library that could leave something of the answer out. */
export async function callGrpc<M extends DescMethodUnary>(
	url: string,
	key: string,
	method: M,
	request: MessageInitShape<M["input"]>,
): Promise<RawAnswer<MessageShape<M["output"]>>> {
	const session = connect(url);
	try {
		const stream = session.request({
			":method": "POST",
			":path": `/${method.parent.typeName}/${method.name}`,
			"content-type": "application/grpc",
			te: "trailers",
			authorization: `Bearer ${key}`,
		});
		const seen: unknown[] = [];
		stream.on("response", (headers) => seen.push(headers)).on("trailers", (trailers) => seen.push(trailers));
		const message = toBinary(method.input, create(method.input, request));
		const head = Buffer.alloc(5);
		head.writeUInt32BE(message.length, 1);
		stream.end(Buffer.concat([head, message]));
		const body = await buffer(stream);
		// What is in a trailer in binary is base64 there.
		const decoded = JSON.stringify(seen).replaceAll(/[\w+/-]{24,}={0,2}/g, (text) => {
			return `${text} ${Buffer.from(text, "base64").toString("latin1")}`;
		});
		return {
			text: `${decoded}\n${body.toString("utf8")}`,
			message: body.length > 5 ? (fromBinary(method.output, body.subarray(5)) as MessageShape<M["output"]>) : undefined,
		};
	} finally {
		session.close();
	}
}
