import type { DescEnum } from "@bufbuild/protobuf";
import type { GenEnum } from "@bufbuild/protobuf/codegenv2";
import { UsageError } from "./command-line.ts";

/** The words a person writes for the values of an enum: `auth` for CATEGORY_AUTH. */
export function wordsOf(desc: DescEnum): string[] {
	return desc.values.filter(({ number }) => number !== 0).map(({ name }) => wordOf(desc, name));
}

/** The value of a word: `auth`, `AUTH` and `CATEGORY_AUTH` are the same. */
export function parseWord<T extends number>(desc: GenEnum<T>, option: string, word: string): T {
	const wanted = word.toLowerCase().replaceAll("-", "_");
	const value = desc.values.find(({ name }) => name.toLowerCase() === wanted || wordOf(desc, name) === wanted);
	if (!value) throw new UsageError(`${option} must be one of ${wordsOf(desc).join(", ")}`);
	return value.number as T;
}

/** The word for a value; the number for values this version does not know. */
export function wordFor(desc: DescEnum, number: number): string {
	const value = desc.value[number];
	return value ? wordOf(desc, value.name) : String(number);
}

function wordOf(desc: DescEnum, name: string): string {
	return name.toLowerCase().replace(desc.sharedPrefix ?? "", "");
}
