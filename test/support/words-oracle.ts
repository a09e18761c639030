/**
 * What a word is, by JavaScript's own tables of Unicode: the decision of docs/decisions/0020-text-search.md once more, for tests to
 * compare `audit.words` and `audit.text_query` with.
 */

/** Marks of Latin, Greek, Cyrillic, Hebrew and Arabic, those of any script, and what is not seen, but for the zero-width space. */
const LEFT_OUT =
	/(?!\u200b)[\p{Cf}\u0640]|(?=[\p{scx=Latn}\p{scx=Grek}\p{scx=Cyrl}\p{scx=Hebr}\p{scx=Arab}\p{scx=Zinh}])\p{M}/gu;
const WRITTEN_AS: Readonly<Record<string, string>> = {
	ß: "ss",
	æ: "ae",
	œ: "oe",
	þ: "th",
	ø: "o",
	đ: "d",
	ð: "d",
	ł: "l",
	ħ: "h",
	ŧ: "t",
	ı: "i",
	ς: "σ",
};
const BY_PAIRS = /[\p{scx=Han}\p{scx=Hira}\p{scx=Kana}\p{scx=Hang}\p{sc=Thai}\p{sc=Lao}\p{sc=Khmr}\p{sc=Mymr}]+/u;

function folded(text: string): string {
	const decomposed = text.normalize("NFKD").replace(LEFT_OUT, "");
	return Array.from(decomposed)
		.map((char) => char.toLowerCase())
		.map((char) => WRITTEN_AS[char] ?? char)
		.join("")
		.normalize("NFC");
}

/** What is between words; runs in scripts that are compared by pairs are by themselves. */
function runsOf(text: string): string[] {
	const runs = folded(text).match(/[\p{L}\p{N}\p{M}]+\*?/gu) ?? [];
	return runs
		.flatMap((run) => run.split(new RegExp(`(${BY_PAIRS.source}\\*?)`, "u")))
		.filter((run) => /[^*]/.test(run));
}

/** The words of an event's text, sorted, each once. */
export function wordsOf(text: string): string[] {
	const words = runsOf(text).flatMap((run) => {
		const chars = Array.from(run.replace("*", ""));
		if (!BY_PAIRS.test(run)) return [chars.slice(0, 128).join("")];
		return chars.map((char, i) => char + (chars[i + 1] ?? ""));
	});
	return [...new Set(words)].sort();
}

/** Whether a text has all words of another. */
export function hasWords(text: string, sought: string): boolean {
	const words = wordsOf(text);
	return runsOf(sought).every((run) => {
		const chars = Array.from(run.replace("*", ""));
		const whole = chars.slice(0, 128).join("");
		if (BY_PAIRS.test(run) && chars.length > 1) {
			return chars.slice(1).every((char, i) => words.includes((chars[i] ?? "") + char));
		}
		const isBeginning = BY_PAIRS.test(run) || run.endsWith("*");
		return words.some((word) => (isBeginning ? word.startsWith(whole) : word === whole));
	});
}
