import type { KeyObject } from "node:crypto";
import { create, type MessageInitShape, toJsonString } from "@bufbuild/protobuf";
import type { MaskableUnit } from "../auth/principal.ts";
import { AuditError } from "../errors.ts";
import type { EventId, Micros, TenantId } from "../event/event.ts";
import { pathWithin } from "../event/field-path.ts";
import { rfc3339, timestampOf } from "../event/time.ts";
import {
	type ExportManifest,
	ExportManifestSchema,
	type ExportPoint,
	ExportPointSchema,
	type ExportRequest,
	type ExportResponse,
	ExportResponseSchema,
	type QueryRequest,
} from "../gen/audit/v1/audit_service_pb.ts";
import type { ExportedRow } from "../storage/exported-row.ts";
import type { Point } from "../storage/point.ts";
import { ahead } from "./ahead.ts";
import { ExportFile } from "./export-file.ts";
import { type Plan, planOf, queryOf } from "./plan.ts";
import { issueResumeToken, openResumeToken, type Progress } from "./resume-token.ts";
import type { Turns } from "./turns.ts";

/** A search whose events can be gone through; `query/walk.ts` has it. */
export interface Source {
	/** All that is searched for, and in which order, as text. */
	readonly canonical: string;
	/** @throws AuditError not_found, unavailable */
	point(): Promise<Point | undefined>;
	/** @throws AuditError deadline_exceeded, unavailable */
	rows(after: Place | undefined, batchNo: bigint, signal: AbortSignal): AsyncGenerator<Piece>;
}
interface Place {
	readonly occurredAt: Micros;
	readonly id: EventId;
}
interface Piece {
	readonly rows: readonly ExportedRow[];
	readonly next: Place;
}

export interface ExporterOptions<S extends Source> {
	/** Opens a search. @throws AuditError permission_denied, invalid_argument */
	readonly open: (request: QueryRequest, tenantId: TenantId, masked: ReadonlySet<MaskableUnit>) => S;
	/** `DerivedKeys.pageTokens`. */
	readonly tokenKey: KeyObject;
	/** Who may have a connection of the database for the next piece. */
	readonly turns: Turns;
	/** Milliseconds since 1970. */
	readonly now?: () => number;
}

/** An export that has its point, and may begin. */
export interface OpenExport<S> {
	readonly source: S;
	/** What the log is told of it, besides the search. */
	readonly told: { readonly format: string; readonly up_to_batch: number; readonly resumed_after?: number };
	/**
	 * Its messages, once. Nothing is read before the first is asked for, and never more than one piece ahead.
	 *
	 * @param signal ends it, and what it is reading
	 * @throws AuditError deadline_exceeded, unavailable
	 */
	messages(signal: AbortSignal): AsyncGenerator<ExportResponse>;
}

/** A message of the stream has no more of the file than this: clients take 4 MiB, and some of that in base64. */
const MESSAGE_BYTES = 128 * 1024;

/** Writes all events of a search, as they were at one point of the log, into a file that is never in memory as a whole. */
export class Exporter<S extends Source> {
	readonly #options: ExporterOptions<S>;
	readonly #now: () => number;

	constructor(options: ExporterOptions<S>) {
		this.#options = options;
		this.#now = options.now ?? Date.now;
	}

	/** @throws AuditError invalid_argument with every violation, permission_denied, not_found, unavailable */
	async open(request: ExportRequest, tenantId: TenantId, masked: ReadonlySet<MaskableUnit>): Promise<OpenExport<S>> {
		const plan = planOf(request, masked);
		const source = inQuery(() => this.#options.open(queryOf(request), tenantId, masked));
		const bound = `${plan.canonical}${source.canonical}`;
		const { resumeToken } = request;
		const progress = resumeToken ? openResumeToken(this.#options.tokenKey, bound, resumeToken, this.#now()) : undefined;
		const point = progress?.point ?? (await source.point()) ?? NOTHING_YET;
		const file = await ExportFile.open(plan, point, progress);
		const issue = (at: Progress) => issueResumeToken(this.#options.tokenKey, bound, at, this.#now());
		const asked = { ...request, query: { ...queryOf(request), tenantId }, resumeToken: "" };
		return {
			source,
			told: {
				format: plan.name,
				up_to_batch: Number(point.batchNo),
				...(progress && { resumed_after: Number(progress.events) }),
			},
			messages: (signal) => this.#messages({ plan, source, tenantId, file, issue, asked }, signal),
		};
	}

	async *#messages(
		{ plan, source, tenantId, file, issue, asked }: Started<S>,
		signal: AbortSignal,
	): AsyncGenerator<ExportResponse> {
		const token = () => (plan.format.isResumable ? issue(file.progress()) : "");
		yield responseOf("start", {
			...describe(plan, file.point),
			fileName: fileNameOf(plan, tenantId, file.point),
			mediaType: plan.compression.mediaType ?? plan.format.mediaType,
			offset: file.bytes,
			resumeToken: token(),
		});
		const pieces = ahead(source.rows(file.place, file.point.batchNo, signal), this.#options.turns);
		try {
			yield* chunksOf(await file.begin(), file, token);
			for await (const { rows, next } of pieces) yield* chunksOf(await file.add(rows, next), file, token);
			const manifest = { ...describe(plan, file.point), request: asked };
			yield* chunksOf(await file.end(jsonOf({ ...manifest, events: file.events })), file, () => "");
			yield responseOf("manifest", { ...manifest, ...file.sums() });
		} finally {
			// Not at its end: somebody has left in the middle of it.
			await pieces.return(undefined);
			await file.close();
		}
	}
}

/** Its violations are within the request's own `query`. */
function inQuery<T>(open: () => T): T {
	try {
		return open();
	} catch (error) {
		if (!(error instanceof AuditError)) throw error;
		const { code, message, reason } = error;
		const violations = error.violations.map((each) => ({ ...each, field: pathWithin("query", each.field) }));
		throw new AuditError(code, message, { reason, violations, cause: error.cause });
	}
}

function jsonOf(manifest: MessageInitShape<typeof ExportManifestSchema>): string {
	return toJsonString(ExportManifestSchema, create(ExportManifestSchema, manifest), { useProtoFieldName: true });
}

interface Started<S> {
	readonly plan: Plan;
	readonly source: S;
	readonly tenantId: TenantId;
	readonly file: ExportFile;
	readonly issue: (progress: Progress) => string;
	readonly asked: ExportManifest["request"];
}

/** The point of a log in which nothing was ever committed. */
const NOTHING_YET: Point = { batchNo: -1n, committedAt: 0n as Micros, chain: Buffer.alloc(32) };

function describe({ columns, maskedColumns }: Plan, point: Point) {
	return {
		point: renderPoint(point),
		columns: columns.map(({ name }) => name),
		maskedColumns: maskedColumns.map(({ name }) => name),
	};
}

function renderPoint({ batchNo, committedAt, chain }: Point): ExportPoint | undefined {
	if (batchNo < 0n) return undefined;
	return create(ExportPointSchema, { batchNo, committedAt: timestampOf(committedAt), chain });
}

/** A name that every file system takes: a tenant's may have a colon. */
function fileNameOf({ format, compression }: Plan, tenantId: TenantId, { committedAt }: Point): string {
	const time = rfc3339(committedAt).slice(0, 19).replaceAll(/[-:]/g, "");
	return `${tenantId.replaceAll(":", "_")}-${time}Z.${format.extension}${compression.extension}`;
}

/** The next bytes of a file, in pieces that fit a message. One can go on from the last of them. */
function* chunksOf(bytes: Uint8Array, file: ExportFile, token: () => string): Generator<ExportResponse> {
	const begin = file.bytes - BigInt(bytes.byteLength);
	for (let at = 0; at < bytes.byteLength; at += MESSAGE_BYTES) {
		const data = bytes.subarray(at, at + MESSAGE_BYTES);
		const end = at + data.byteLength;
		const resumeToken = end === bytes.byteLength ? token() : "";
		const reached = file.place && timestampOf(file.place.occurredAt);
		yield responseOf("chunk", { data, resumeToken, events: file.events, offset: begin + BigInt(end), reached });
	}
}

type Part = ExportResponse["part"];
type PartName = NonNullable<Part["case"]>;

function responseOf<Case extends PartName>(
	name: Case,
	value: MessageInitShape<typeof ExportResponseSchema>["part"] extends infer P
		? P extends { case: Case; value: infer V }
			? V
			: never
		: never,
): ExportResponse {
	return create(ExportResponseSchema, { part: { case: name, value } as never });
}
