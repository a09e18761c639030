import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { migrate } from "../../src/storage/migrate.ts";
import { asRole } from "../support/as-role.ts";
import { createTestDatabase, type TestDatabase, testSecret } from "../support/services.ts";
import { hasWords, wordsOf } from "../support/words-oracle.ts";

/** What a word is, in SQL, against what JavaScript's tables of Unicode say. */

let database: TestDatabase;

beforeAll(async () => {
	database = await createTestDatabase();
});
afterAll(() => database.drop());

const SENTENCES = [
	"user.login file_read-2 a*b c* *d ** +1 '; DROP TABLE x; -- \\ \" %_",
	"STRASSE Straße GROẞE Größe Œuvre ŒUVRE Ænima þorn ÞORN Łódź Søren Đorđe ðe Ħal ŧ",
	"KIRMIZI kırmızı İSTANBUL istanbul ılık IĞDIR Iğdır",
	"ΟΔΥΣΣΕΎΣ Οδυσσεύς σοφός ΆΛΦΑ ᾳ ᾼ ὠδή ϐ ϑ",
	"Владимир ПУТИЛИН ёлка Ёлка їжак Ґрунт Қазақ ѐ Ѝ й",
	"Nguyễn Đặng Phước tiếng VIỆT e\u0301te\u0301 \u00e9t\u00e9 A\u030angstro\u0308m \u212bngstr\u00f6m",
	"مُحَمَّد محمد مـحـمـد إبراهيم ﻣﺤﻤﺪ می\u200cخواهم ١٢٣",
	"שָׁלוֹם שלום בְּרֵאשִׁית מ״מ",
	"हिन्दी में क़ानून ज़िंदगी বাংলা தமிழ் తెలుగు ಕನ್ನಡ മലയാളം ਪੰਜਾਬੀ ગુજરાતી සිංහල",
	"東京都で新しい利用者が登録されました タワー ﾀﾜｰ ガギグ ｶﾞｷﾞｸﾞ か\u3099 京 人々 〇 tokyo東京tokyo",
	"用户登录成功，来自192.168.0.1（失败）繁體字 𠮷野家",
	"사용자가 로그인했습니다 서울에서 \u1112\u1161\u11ab\u1100\u1173\u11af ㅎㅏㄴ",
	"ผู้ใช้เข้าสู่ระบบสำเร็จ ກຳລັງເຂົ້າ អ្នកប្រើ အသုံးပြုသူ ๑๒๓",
	"ՀԱՅԱՍՏԱՆ Հայաստան և ქართული ᲥᲐᲠᲗᲣᲚᲘ አማርኛ ᏣᎳᎩ ꮳꮃꭹ 𞤀𞤣𞤤𞤢𞤥",
	"😀 👩‍👩‍👧 1️⃣ 🇩🇪 ☃ ™ © ② ½ x² ﬁne ｆｕｌｌ－ｗｉｄｔｈ １２３ ㎏ ℵ 𝕳𝖊𝖑𝖑𝖔",
	"so\u00adft zero\u200bwidth non\u00a0breaking bom\ufeff line\nbreak\ttab l'été d’été don't",
	`${"x".repeat(127)} ${"y".repeat(128)} ${"z".repeat(129)} ${"東".repeat(140)}`,
	"",
	" . ",
];

/** Characters of blocks that no version of Unicode has added anything to lately. */
const BLOCKS: readonly (readonly [number, number])[] = [
	[0x20, 0x7e],
	[0xa0, 0x24f],
	[0x300, 0x36f],
	[0x370, 0x3ff],
	[0x400, 0x556],
	[0x591, 0x5ea],
	[0x620, 0x6d3],
	[0x904, 0x94d],
	[0xb82, 0xbcd],
	[0xe01, 0xe5b],
	[0x10a0, 0x11ff],
	[0x1780, 0x17e9],
	[0x1e00, 0x1fff],
	[0x2000, 0x2064],
	[0x2100, 0x214f],
	[0x2460, 0x24ff],
	[0x3000, 0x30ff],
	[0x3131, 0x33ff],
	[0x4e00, 0x4eff],
	[0xac00, 0xacff],
	[0xfb00, 0xfb4e],
	[0xff01, 0xffdc],
	[0x1d400, 0x1d4ff],
	[0x1f300, 0x1f64f],
];

const character = fc
	.constantFrom(...BLOCKS)
	.chain(([from, to]) => fc.integer({ min: from, max: to }))
	.map((point) => String.fromCodePoint(point))
	.filter((char) => !/\p{Cn}/u.test(char));
const piece = fc.oneof(
	fc.constantFrom(...SENTENCES.flatMap((sentence) => sentence.split(" "))),
	fc.string({ unit: character, maxLength: 6 }),
);
const text = fc
	.tuple(
		fc.array(fc.tuple(piece, fc.constantFrom("", " ", "-", "*")), { maxLength: 8 }),
		fc.constantFrom("NFC", "NFD", "NFKC", "NFKD", undefined),
		fc.constantFrom("toUpperCase", "toLowerCase", "toString"),
	)
	.map(([pieces, form, cased]) => {
		const joined = pieces.flat().join("")[cased]();
		return form ? joined.normalize(form) : joined;
	});

async function wordsIn(url: string, texts: readonly string[]): Promise<string[][]> {
	return asRole(url, "audit_reader", async (reader) => {
		const { rows } = await reader.query<{ words: string[] }>(
			`SELECT ARRAY(SELECT DISTINCT w COLLATE "C" FROM unnest(audit.words(given)) AS w) AS words
			 FROM unnest($1::text[]) WITH ORDINALITY AS t (given, n) ORDER BY n`,
			[texts],
		);
		return rows.map(({ words }) => words.sort());
	});
}

describe("the words of a text are what they are by Unicode", () => {
	test.each(SENTENCES)("%s", async (sentence) => {
		const forms = [sentence, sentence.normalize("NFC"), sentence.normalize("NFD"), sentence.normalize("NFKD")];
		expect(await wordsIn(database.url, forms)).toEqual(forms.map(wordsOf));
	});

	test("whatever the text", async () => {
		const texts = fc.sample(text, { seed: 7, numRuns: 5_000 });
		const found = await wordsIn(database.url, texts);
		for (const [i, given] of texts.entries()) expect([given, found[i]]).toEqual([given, wordsOf(given)]);
	});

	test.each([
		["straße", "strasse"],
		["İSTANBUL", "istanbul"],
		["KIRMIZI", "kırmızı"],
		["Οδυσσεύς", "ΟΔΥΣΣΕΥΣ"],
		["Nguyễn", "nguyen"],
		["مُحَمَّد", "محمد"],
		["שָׁלוֹם", "שלום"],
		["ｆｕｌｌ", "full"],
		["Ёлка", "елка"],
	])("%s is the same as %s", async (one, other) => {
		const [a, b] = await wordsIn(database.url, [one, other]);
		expect(a).toEqual(b);
		expect(a).toHaveLength(1);
	});

	test("vowel signs of Indic scripts are parts of words", async () => {
		const [di, da] = await wordsIn(database.url, ["दि", "द"]);
		expect(di).not.toEqual(da);
	});
});

test("and the same whatever the locale of the database is", async () => {
	const admin = new Client({ connectionString: `${inject("postgresUrl")}/postgres` });
	await admin.connect();
	const locales = ["LOCALE 'C'"];
	const icu = await admin.query("SELECT FROM pg_collation WHERE collprovider = 'i' LIMIT 1");
	// Where i is not the small letter of I.
	if (icu.rowCount === 1) locales.push("LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR' LOCALE 'C'");
	const texts = [...SENTENCES, ...fc.sample(text, { seed: 8, numRuns: 1_000 })];
	const name = `test_${randomBytes(6).toString("hex")}`;
	try {
		for (const locale of locales) {
			await admin.query(`CREATE DATABASE ${name} TEMPLATE template0 ENCODING 'UTF8' ${locale}`);
			const url = `${inject("postgresUrl")}/${name}`;
			await migrate({ databaseUrl: url, secret: testSecret() });
			expect([locale, await wordsIn(url, texts)]).toEqual([locale, texts.map(wordsOf)]);
			await admin.query(`DROP DATABASE ${name} WITH (FORCE)`);
		}
	} finally {
		await admin.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
		await admin.end();
	}
});

describe("a text has the words that are sought", () => {
	/** A text, and what may be sought in it: some of its own pieces, cut, spelt otherwise, or anything. */
	const pair = fc.tuple(text, text, fc.nat(), fc.nat()).map(([given, other, at, length]) => {
		const from = at % (given.length + 1);
		const own = given.slice(from, from + 1 + (length % 12));
		return { given, sought: length % 7 === 0 ? other : own };
	});

	test("if it has all of them, and no text is passed over that has", async () => {
		const pairs = fc
			.sample(pair, { seed: 11, numRuns: 6_000 })
			.filter(({ given, sought }) => given.isWellFormed() && sought.isWellFormed());
		const { rows } = await asRole(database.url, "audit_reader", (reader) =>
			reader.query<{ has: boolean | null; plausible: boolean }>(
				`SELECT array_to_tsvector(audit.words(given)) @@ audit.text_query(sought) AS has,
				        lower(given COLLATE "C") LIKE ALL (audit.text_patterns(sought)) OR given ~ audit.folding() AS plausible
				 FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS t (given, sought, n) ORDER BY n`,
				[pairs.map(({ given }) => given), pairs.map(({ sought }) => sought)],
			),
		);
		const counts = { found: 0, passedOver: 0 };
		for (const [i, { given, sought }] of pairs.entries()) {
			const { has, plausible } = rows[i] ?? {};
			const isEmpty = wordsOf(sought).length === 0;
			expect([given, sought, has]).toEqual([given, sought, isEmpty ? null : hasWords(given, sought)]);
			if (has) expect([given, sought, plausible]).toEqual([given, sought, true]);
			counts.found += has ? 1 : 0;
			counts.passedOver += plausible ? 0 : 1;
		}
		expect(counts.found).toBeGreaterThan(500);
		expect(counts.passedOver).toBeGreaterThan(100);
	});
});
