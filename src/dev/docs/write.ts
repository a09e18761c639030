/**
 * Writes the documentation that has a source elsewhere: docs/api.md and docs/openapi.json from the protos, the tables of
 * docs/operations.md from settings, metrics and alert rules, that of docs/export.md from the columns. Run by `make docs`; with
 * --check it only tells what is not fresh, for `make check`.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { apiReference } from "./api-reference.ts";
import { withColumns } from "./export.ts";
import { openApi } from "./openapi.ts";
import { withTables } from "./operations.ts";
import { readProtos } from "./protos.ts";

const ROOT = join(import.meta.dirname, "../../..");
const read = (path: string) => readFileSync(join(ROOT, path), "utf8");

const protos = readProtos(join(ROOT, "proto"));
const { version } = JSON.parse(read("package.json")) as { version: string };
const files = {
	"docs/api.md": apiReference(protos),
	"docs/openapi.json": `${JSON.stringify(openApi(protos, version), null, "\t")}\n`,
	"docs/export.md": withColumns(read("docs/export.md")),
	"docs/operations.md": withTables(read("docs/operations.md"), read("docs/alerts.yml")),
};

const stale = Object.entries(files).filter(([path, text]) => !existsSync(join(ROOT, path)) || read(path) !== text);
if (process.argv.includes("--check")) {
	if (stale.length > 0) {
		throw new Error(`not what their sources give, run make docs: ${stale.map(([path]) => path).join(", ")}`);
	}
} else {
	for (const [path, text] of stale) writeFileSync(join(ROOT, path), text);
}
