import { cpSync, mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { type Copy, DockerfileParser, type From, type Instruction, type PropertyInstruction } from "dockerfile-ast";
import { runProgram } from "./run-program.ts";

/** What a Dockerfile makes, without an engine to make it: its steps run in folders, one for each stage. */
export interface Image {
	/** The last stage's file system, as far as its steps made it. */
	readonly root: string;
	readonly workdir: string;
	readonly base: string;
	readonly env: Readonly<Record<string, string>>;
	readonly labels: Readonly<Record<string, string>>;
	readonly user: string;
	readonly ports: readonly string[];
	readonly stopSignal: string;
	readonly entrypoint: readonly string[];
	readonly cmd: readonly string[];
	readonly healthcheck: readonly string[];
	/** What was copied from the clone, over all stages. */
	readonly copied: readonly string[];
}

/**
 * Runs the steps with the programs of this machine. Only what happens inside the working folder is as in an image:
 * a RUN must not name absolute paths.
 *
 * @throws Error with what a failing RUN said
 */
export async function replayDockerfile(text: string, context: string, folder: string): Promise<Image> {
	const stages: Stage[] = [];
	const args: Record<string, string> = {};
	for (const instruction of DockerfileParser.parse(text).getInstructions()) {
		const stage = stages.at(-1);
		const keyword = instruction.getKeyword();
		if (keyword === "ARG") Object.assign(args, pairs(instruction));
		else if (keyword === "FROM")
			stages.push(newStage(instruction as From, args, join(folder, `stage-${stages.length}`)));
		else if (!stage) throw new Error(`${keyword} before FROM`);
		else await follow(instruction, stage, stages, context);
	}
	const last = stages.at(-1);
	if (!last) throw new Error("no stage");
	return { ...last, copied: stages.flatMap(({ copied }) => copied) };
}

type Stage = { -readonly [key in keyof Image]: Image[key] } & { name: string };

function newStage(from: From, args: Record<string, string>, root: string): Stage {
	mkdirSync(root, { recursive: true });
	const image = from.getImage() ?? "";
	return {
		name: from.getBuildStage() ?? "",
		root,
		base: image.replace(/\$\{(\w+)\}/g, (_, name: string) => args[name] ?? ""),
		workdir: "/",
		env: {},
		labels: {},
		user: "root",
		ports: [],
		stopSignal: "",
		entrypoint: [],
		cmd: [],
		healthcheck: [],
		copied: [],
	};
}

async function follow(
	instruction: Instruction,
	stage: Stage,
	stages: readonly Stage[],
	context: string,
): Promise<void> {
	const keyword = instruction.getKeyword();
	const words = instruction.getArguments().map((argument) => argument.getValue());
	switch (keyword) {
		case "WORKDIR":
			stage.workdir = words[0] ?? "";
			mkdirSync(join(stage.root, stage.workdir), { recursive: true });
			return;
		case "COPY":
			return copy(instruction as Copy, words, stage, stages, context);
		case "RUN":
			return await run(instruction.getArgumentsContent() ?? "", stage);
		case "ENV":
			stage.env = { ...stage.env, ...pairs(instruction) };
			return;
		case "LABEL":
			stage.labels = { ...stage.labels, ...pairs(instruction) };
			return;
		case "USER":
			stage.user = words[0] ?? "";
			return;
		case "EXPOSE":
			stage.ports = words;
			return;
		case "STOPSIGNAL":
			stage.stopSignal = words[0] ?? "";
			return;
		case "ENTRYPOINT":
			stage.entrypoint = execForm(instruction);
			return;
		case "CMD":
			stage.cmd = execForm(instruction);
			return;
		case "HEALTHCHECK":
			stage.healthcheck = execForm(instruction);
			return;
		default:
			throw new Error(`${keyword} is not known here`);
	}
}

function copy(instruction: Copy, words: string[], stage: Stage, stages: readonly Stage[], context: string): void {
	const from = instruction.getFromFlag()?.getValue();
	const source = from === undefined ? context : stages.find(({ name }) => name === from)?.root;
	if (source === undefined) throw new Error(`COPY from an unknown stage: ${from}`);
	const paths = words.slice(0, -1);
	const target = join(stage.root, stage.workdir, words.at(-1) ?? "");
	for (const path of paths) {
		const isFolder = statSync(join(source, path)).isDirectory();
		// A folder's content is copied, not the folder; a file goes into what ends with a slash.
		const name = isFolder || !words.at(-1)?.endsWith("/") ? "" : path;
		cpSync(join(source, path), join(target, name), { recursive: true, verbatimSymlinks: true });
	}
	if (from === undefined) stage.copied = [...stage.copied, ...paths];
}

async function run(command: string, stage: Stage): Promise<void> {
	if (/(^|[\s=])\/\w/.test(command)) throw new Error(`RUN names an absolute path: ${command}`);
	const cwd = join(stage.root, stage.workdir);
	const result = await runProgram("sh", ["-c", command], { cwd, env: { npm_config_prefer_offline: "true" } });
	if (result.exitCode !== 0) throw new Error(`RUN ${command}:\n${result.stdout}${result.stderr}`);
}

function pairs(instruction: Instruction): Record<string, string> {
	const properties = (instruction as PropertyInstruction).getProperties();
	return Object.fromEntries(properties.map((property) => [property.getName(), property.getValue() ?? ""]));
}

/** `["node", "…"]`: the other form goes through a shell, which keeps signals to itself. */
function execForm(instruction: Instruction): string[] {
	const text = instruction.getArgumentsContent() ?? "";
	return JSON.parse(text.slice(text.indexOf("["))) as string[];
}
