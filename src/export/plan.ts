import { create, type DescEnum } from "@bufbuild/protobuf";
import type { MaskableUnit } from "../auth/principal.ts";
import { invalidArgument, type Violation } from "../errors.ts";
import {
	ExportCompressionSchema,
	ExportFormat,
	ExportFormatSchema,
	type ExportRequest,
	type QueryRequest,
	QueryRequestSchema,
} from "../gen/audit/v1/audit_service_pb.ts";
import { type Column, columnNamed, isMasked, USUAL_COLUMNS } from "./columns.ts";
import { COMPRESSIONS, type Compression } from "./compression.ts";
import { FORMATS, type Format } from "./formats.ts";

/** What kind of file a request asks for, checked. */
export interface Plan {
	/** The format's name in the API. */
	readonly name: string;
	readonly format: Format;
	readonly compression: Compression;
	readonly isCompressed: boolean;
	readonly bom: boolean;
	readonly columns: readonly Column[];
	readonly masked: ReadonlySet<MaskableUnit>;
	readonly maskedColumns: readonly Column[];
	/** All of it as text: the same for the same file. */
	readonly canonical: string;
}

/** @throws AuditError invalid_argument with every violation */
export function planOf(request: ExportRequest, masked: ReadonlySet<MaskableUnit>): Plan {
	const violations: Violation[] = [];
	const refuse = (field: string, message: string) => void violations.push({ field, message });
	const format = (FORMATS as Readonly<Record<number, Format>>)[request.format];
	const compression = (COMPRESSIONS as Readonly<Record<number, Compression>>)[request.compression];
	const isCompressed = compression !== undefined && compression.extension !== "";
	if (!format) refuse("format", `must be one of ${namesOf(ExportFormatSchema)}`);
	if (!compression) {
		refuse("compression", `must be one of ${namesOf(ExportCompressionSchema)}`);
	}
	if (format && !format.isCompressible && isCompressed)
		refuse("compression", "is not for this format, which has its own");
	if (request.csvBom && request.format !== ExportFormat.CSV) refuse("csv_bom", "is for EXPORT_FORMAT_CSV alone");
	if (request.query?.pageSize) refuse("query.page_size", "must not be set: an export has no pages");
	if (request.query?.pageToken) refuse("query.page_token", "must not be set: an export has no pages");
	const columns = columnsOf(request.columns, refuse);
	if (violations.length > 0 || !format || !compression) throw invalidArgument(violations, "INVALID_EXPORT");
	const canonical = JSON.stringify([
		request.format,
		isCompressed ? request.compression : 0,
		request.csvBom,
		columns.map(({ name }) => name),
		[...masked].sort(),
	]);
	const maskedColumns = columns.filter((column) => isMasked(column, masked));
	const name = ExportFormatSchema.value[request.format]?.name ?? "";
	return { name, format, compression, isCompressed, bom: request.csvBom, columns, masked, maskedColumns, canonical };
}

function columnsOf(names: readonly string[], refuse: (field: string, message: string) => void): readonly Column[] {
	if (names.length === 0) return USUAL_COLUMNS;
	return names.flatMap((name, i) => {
		const column = columnNamed(name);
		if (!column) refuse(`columns[${i}]`, "is not a column; docs/export.md has them all");
		else if (names.indexOf(name) < i) refuse(`columns[${i}]`, "is named before");
		return column ?? [];
	});
}

function namesOf({ values }: DescEnum): string {
	return values.flatMap(({ name, number }) => (number === 0 ? [] : [name])).join(", ");
}

/** The search whose events are exported. */
export function queryOf({ query }: ExportRequest): QueryRequest {
	return query ?? create(QueryRequestSchema);
}
