import type { ConnectRouter } from "@connectrpc/connect";
import { DeadLetterService } from "../gen/audit/v1/dead_letter_service_pb.ts";
import { callKey, callOf, principalOf } from "./call.ts";
import type { DeadLetterServiceCalls } from "./dead-letter-service.ts";
import { strictJson } from "./interceptors.ts";

/** The RPCs about dead letters, with the same JSON codec as all others: it names everything wrong with a request. */
export function addDeadLetterService(router: ConnectRouter, calls: DeadLetterServiceCalls): void {
	const { listDeadLetters, getDeadLetter, redriveDeadLetters, discardDeadLetters } = DeadLetterService.method;
	router.rpc(
		listDeadLetters,
		(request, { values }) => calls.listDeadLetters(request, callOf(values)),
		strictJson(listDeadLetters),
	);
	router.rpc(
		getDeadLetter,
		(request, { values }) => calls.getDeadLetter(request, callOf(values)),
		strictJson(getDeadLetter),
	);
	router.rpc(
		redriveDeadLetters,
		(request, { values }) => calls.redriveDeadLetters(request, principalOf(values.get(callKey))),
		strictJson(redriveDeadLetters),
	);
	router.rpc(
		discardDeadLetters,
		(request, { values }) => calls.discardDeadLetters(request, principalOf(values.get(callKey))),
		strictJson(discardDeadLetters),
	);
}
