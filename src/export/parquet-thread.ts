import { parentPort, workerData } from "node:worker_threads";
import { ParquetEncoder } from "./parquet-encoder.ts";
import type { ParquetColumn, ToThread } from "./parquet-file.ts";

/** The other end of a ParquetFile: answers each message with the bytes that follow in the file. */

const encoder = new ParquetEncoder(workerData as readonly ParquetColumn[]);

parentPort?.on("message", (message: ToThread) => {
	const bytes = "batch" in message ? encoder.write(message.batch) : encoder.end(message.metadata);
	parentPort?.postMessage(bytes, [bytes.buffer]);
});
