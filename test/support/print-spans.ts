import { context, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { type ReadableSpan, SimpleSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";

/**
 * What an operator loads with `node --import`: an OpenTelemetry SDK. This one prints each span that ends as a line of JSON
 * to standard error.
 */

/** A line of what is printed. */
export interface PrintedSpan {
	readonly span: string;
	readonly kind: string;
	readonly traceId: string;
	readonly spanId: string;
	readonly parentId: string | null;
	readonly remoteParent: boolean;
	readonly traceState: string | null;
	/** The spans it is linked to. */
	readonly links: readonly string[];
	readonly failed: boolean;
	readonly attributes: Readonly<Record<string, unknown>>;
}

function print(span: ReadableSpan): void {
	const { traceId, spanId, traceState } = span.spanContext();
	const printed: PrintedSpan = {
		span: span.name,
		kind: SpanKind[span.kind],
		traceId,
		spanId,
		parentId: span.parentSpanContext?.spanId ?? null,
		remoteParent: span.parentSpanContext?.isRemote === true,
		traceState: traceState?.serialize() ?? null,
		links: span.links.map((link) => link.context.spanId),
		failed: span.status.code === SpanStatusCode.ERROR,
		attributes: span.attributes,
	};
	process.stderr.write(`${JSON.stringify(printed)}\n`);
}

const exporter = {
	export(spans: ReadableSpan[], done: (result: { code: number }) => void): void {
		for (const span of spans) print(span);
		done({ code: 0 });
	},
	shutdown: () => Promise.resolve(),
};
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
trace.setGlobalTracerProvider(new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter })] }));
