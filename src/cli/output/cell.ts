import stringWidth from "string-width";

/** How many columns of a terminal a text takes: wide characters two, combining ones none, an emoji two as a whole. */
export function displayWidth(text: string): number {
	return /^[ -~]*$/.test(text) ? text.length : stringWidth(text);
}

export function pad(text: string, width: number): string {
	return text + " ".repeat(Math.max(0, width - displayWidth(text)));
}

/** Cuts the middle out of what is too wide: names tell most at their ends, ARNs above all. */
export function shorten(text: string, width: number): string {
	if (displayWidth(text) <= width) return text;
	const characters = graphemes(text);
	const half = Math.floor((width - 1) / 2);
	const tail = take(characters.toReversed(), half).toReversed();
	const head = take(characters, width - 1 - displayWidth(tail.join("")));
	return `${head.join("")}…${tail.join("")}`;
}

/** The first characters that fit. */
function take(characters: string[], width: number): string[] {
	const taken: string[] = [];
	let room = width;
	for (const character of characters) {
		room -= displayWidth(character);
		if (room < 0) break;
		taken.push(character);
	}
	return taken;
}

/** What a person sees as characters: a letter with its accents, an emoji with its modifiers. */
function graphemes(text: string): string[] {
	return Array.from(SEGMENTER.segment(text), ({ segment }) => segment);
}

const SEGMENTER = new Intl.Segmenter(undefined, { granularity: "grapheme" });
