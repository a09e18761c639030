/** A value of a row and the name it has in the first line of the file. Names and their order are kept for ever. */
export interface CsvColumn<T> {
	name: string;
	text: (item: T) => string;
}

/** One line of CSV (RFC 4180): quoted where it must be, ended by CR LF. */
export function csvLine(values: readonly string[]): string {
	return `${values.map((value) => quoted(harmless(value))).join(",")}\r\n`;
}

/**
 * A spreadsheet takes what begins so for a formula, which could send the whole sheet away: an apostrophe before it makes
 * it text. The full-width forms are read as the others by some.
 */
const FORMULA = /^\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|^[\t\r\n]/;

/** Control characters other than tab and line breaks, and what reverses the reading order, mean nothing in a sheet. */
const STEERING = /[^\P{Cc}\t\r\n]|[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

function harmless(value: string): string {
	return (FORMULA.test(value) ? `'${value}` : value).replace(STEERING, "\ufffd");
}

function quoted(value: string): string {
	return /[",\r\n]|^\s|\s$/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
}
