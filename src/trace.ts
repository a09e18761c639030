import {
	type Attributes,
	context,
	createTraceState,
	type Link,
	ROOT_CONTEXT,
	type Span,
	type SpanContext,
	SpanKind,
	SpanStatusCode,
	trace,
} from "@opentelemetry/api";

/**
 * What ties together the log lines and spans of one call or message, from its door to its commit.
 *
 * Spans record nothing unless the operator loads an OpenTelemetry SDK (`node --import`); the caller's trace id is carried
 * to the log either way.
 */
export interface Trace {
	/** The id the caller gave this request, or we did; a message may have none. */
	readonly requestId: string | undefined;
	/** The span of the door. */
	readonly span: Span;
}

/** A header's one value; undefined if there is none, or more than one. */
export type ReadHeader = (name: string) => string | undefined;

/** The API hands its spans to whatever SDK is loaded, also to one that comes later. */
const tracer = trace.getTracer("auditlog");

/** The trace of a call, continued from its caller's `traceparent`. Its span is named when the call is known. */
export function startCallTrace(header: ReadHeader, requestId: string): Trace {
	return { requestId, span: tracer.startSpan("call", { kind: SpanKind.SERVER }, parentOf(header)) };
}

/** The trace of a message, continued from its producer's; undefined if it brings neither trace nor request id. */
export function startMessageTrace(header: ReadHeader, attributes: Attributes): Trace | undefined {
	const requestId = readRequestId(header("x-request-id"));
	const remote = readSpanContext(header);
	if (!remote && requestId === undefined) return undefined;
	const options = { kind: SpanKind.CONSUMER, attributes };
	return { requestId, span: tracer.startSpan("process audit.events", options, parentOf(header)) };
}

/** A request id, if it is fit to be repeated in headers and logs. */
export function readRequestId(text: string | undefined): string | undefined {
	return text !== undefined && /^[\w.:/+=-]{1,128}$/.test(text) ? text : undefined;
}

/** The id a trace is found by; undefined if nobody traces this. */
export function traceIdOf(one: Trace): string | undefined {
	const { traceId } = one.span.spanContext();
	return /^0*$/.test(traceId) ? undefined : traceId;
}

/** Ends the span of a door. @param failure the code it failed with, if it did */
export function endTrace(one: Trace, facts: { name?: string; failure?: string; attributes?: Attributes }): void {
	const { span } = one;
	if (facts.name !== undefined) span.updateName(facts.name);
	if (facts.attributes) span.setAttributes(facts.attributes);
	if (facts.failure !== undefined) span.setStatus({ code: SpanStatusCode.ERROR, message: facts.failure });
	span.end();
}

/** Runs a part of the work as a child of its door's span. */
export function inSpan<T>(name: string, parent: Trace | undefined, run: () => Promise<T>): Promise<T> {
	if (!parent?.span.isRecording()) return run();
	return runIn(tracer.startSpan(name, {}, trace.setSpan(ROOT_CONTEXT, parent.span)), run);
}

/**
 * Runs the work that many calls or messages share. It belongs to none of them, so its span is a root of its own, with
 * links to them and from them.
 *
 * @param attributesOf what the span says of the result
 */
export function inSharedSpan<T>(
	name: string,
	sharers: readonly Trace[],
	run: () => Promise<T>,
	attributesOf: (result: T) => Attributes,
): Promise<T> {
	const links = sharers.map(({ span }): Link => ({ context: span.spanContext() }));
	const span = tracer.startSpan(name, { root: true, links });
	if (!span.isRecording()) return run();
	for (const sharer of sharers) sharer.span.addLink({ context: span.spanContext() });
	return runIn(span, async () => {
		const result = await run();
		span.setAttributes(attributesOf(result));
		return result;
	});
}

/** Runs something with a span as the current one, for whoever else instruments the process. */
export function runWith<T>(one: Trace, run: () => T): T {
	return context.with(trace.setSpan(context.active(), one.span), run);
}

async function runIn<T>(span: Span, run: () => Promise<T>): Promise<T> {
	try {
		return await context.with(trace.setSpan(ROOT_CONTEXT, span), run);
	} catch (error) {
		// Not the message: it may repeat what the caller sent.
		span.setStatus({ code: SpanStatusCode.ERROR });
		throw error;
	} finally {
		span.end();
	}
}

/** Whatever instruments the server itself has read the headers already. */
function parentOf(header: ReadHeader) {
	if (trace.getSpan(context.active())) return context.active();
	const remote = readSpanContext(header);
	return remote ? trace.setSpanContext(ROOT_CONTEXT, remote) : ROOT_CONTEXT;
}

/**
 * W3C Trace Context. A `traceparent` that is malformed, or there twice, is as good as none (section 4.3); versions after
 * 00 may add fields at its end.
 */
function readSpanContext(header: ReadHeader): SpanContext | undefined {
	const match = TRACEPARENT.exec(header("traceparent")?.trim() ?? "");
	const [, version, traceId, spanId, flags, more] = match ?? [];
	if (!version || !traceId || !spanId || !flags || (version === "00" && more !== undefined)) return undefined;
	const state = header("tracestate");
	return {
		traceId,
		spanId,
		traceFlags: Number.parseInt(flags, 16) & 1,
		isRemote: true,
		...(state !== undefined && { traceState: createTraceState(state) }),
	};
}

const TRACEPARENT = /^(?!ff)([\da-f]{2})-(?!0{32})([\da-f]{32})-(?!0{16})([\da-f]{16})-([\da-f]{2})(-.*)?$/;
