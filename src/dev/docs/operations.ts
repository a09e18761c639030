import { parse } from "yaml";
import { SETTINGS } from "../../config.ts";
import { METRICS } from "../../telemetry.ts";
import { table } from "./api-reference.ts";

/** The text with its tables written anew, each between its markers. @param alerts the rules for Prometheus, as YAML */
export function withTables(text: string, alerts: string): string {
	const tables = { settings: settingsTable(), metrics: metricsTable(), alerts: alertsTable(alerts) };
	return Object.entries(tables).reduce((so, [name, content]) => replaceBetween(so, name, content), text);
}

interface Setting {
	readonly doc: string;
	readonly fallback?: string;
	readonly optional?: true;
	readonly secret?: true;
}

function settingsTable(): string {
	const settings: Readonly<Record<string, Setting>> = SETTINGS;
	return table(
		["Setting", "Default", "Meaning"],
		Object.entries(settings).map(([name, setting]) => [
			setting.secret ? `\`${name}\`, \`${name}_FILE\`` : `\`${name}\``,
			setting.fallback === undefined ? (setting.optional ? "none" : "**required**") : `\`${setting.fallback}\``,
			setting.doc,
		]),
	);
}

interface Metric {
	readonly type: string;
	readonly labels: Readonly<Record<string, readonly string[] | "word">>;
	readonly help: string;
}

function metricsTable(): string {
	const metrics: Readonly<Record<string, Metric>> = METRICS;
	const labelText = ([name, values]: [string, readonly string[] | "word"]) =>
		values === "word" ? name : `${name}: ${values.join(", ")}`;
	return table(
		["Metric", "Type", "Labels", "Meaning"],
		Object.entries(metrics).map(([name, { type, labels, help }]) => [
			`\`${name}\``,
			type,
			Object.entries(labels).map(labelText).join("; "),
			help,
		]),
	);
}

interface Rule {
	readonly alert: string;
	readonly expr: string;
	readonly annotations: { readonly summary: string; readonly action: string };
}

function alertsTable(yaml: string): string {
	const { groups } = parse(yaml) as { groups: readonly { readonly rules: readonly Rule[] }[] };
	return table(
		["Alert", "When", "Means", "Do"],
		groups.flatMap(({ rules }) =>
			rules.map(({ alert, expr, annotations }) => {
				for (const [name] of expr.matchAll(/audit_\w+/g)) mustExist(name);
				return [alert, `\`${expr}\``, annotations.summary, annotations.action];
			}),
		),
	);
}

/** An alert on a metric that is not there would never sound. */
function mustExist(name: string): void {
	const family = name.replace(/_(count|sum|bucket)$/, "");
	if (!(name in METRICS) && !(family in METRICS)) throw new Error(`docs/alerts.yml names ${name}, which is no metric`);
}

export function replaceBetween(text: string, name: string, content: string): string {
	const [begin, end] = [`<!-- begin ${name}: written by make docs -->`, `<!-- end ${name} -->`];
	const from = text.indexOf(begin);
	const to = text.indexOf(end);
	if (from < 0 || to < from) throw new Error(`the document has no place for ${name}`);
	return `${text.slice(0, from + begin.length)}\n${content}\n${text.slice(to)}`;
}
