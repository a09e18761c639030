import { constants } from "node:http2";
import type { NodeRequest, NodeResponse } from "./call.ts";

/**
 * Ends a call's stream with its answer, even if its request goes on (RFC 9113 8.1), and gives up on an answer that nobody
 * reads.
 */
export function endWithAnswer(request: NodeRequest, response: NodeResponse, stalledMs: number): void {
	endWhenUnread(request, response, stalledMs);
	if (!("stream" in response)) return;
	const { stream } = response;
	const close = () => {
		if (stream.state.remoteClose === 0) stream.close(constants.NGHTTP2_NO_ERROR);
	};
	// node:http2 sends the trailers, and with them the end of the answer, one turn after it asks for them. An answer
	// without a body has none: it ended with its headers.
	stream.once("wantTrailers", () => setImmediate(close));
	stream.once("finish", () => {
		if (stream.state.localClose === 1) close();
	});
}

/**
 * An answer that stands still because there is nothing to say is as it should be: a call that is busy, a stream that
 * waits for news. One of which something waits to be read is not.
 */
function endWhenUnread(request: NodeRequest, response: NodeResponse, stalledMs: number): void {
	if ("stream" in response) {
		const { stream } = response;
		stream.setTimeout(stalledMs);
		stream.on("timeout", () => {
			if (stream.writableLength > 0) stream.close(constants.NGHTTP2_CANCEL);
			else stream.setTimeout(stalledMs);
		});
		return;
	}
	response.setTimeout(stalledMs).on("timeout", () => {
		if (response.writableLength > 0) request.socket.destroy();
		else response.setTimeout(stalledMs);
	});
}
