import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import { clerkOf, type KeyClerk } from "../auth/key-changes.ts";
import { AccessService } from "../gen/audit/v1/access_service_pb.ts";
import type { AccessServiceCalls } from "./access-service.ts";
import { callKey, principalOf } from "./call.ts";
import { strictJson } from "./interceptors.ts";

/** The RPCs about API keys, with the same JSON codec as all others: it names everything wrong with a request. */
export function addAccessService(router: ConnectRouter, calls: AccessServiceCalls): void {
	const { createApiKey, listApiKeys, rotateApiKey, revokeApiKey } = AccessService.method;
	const by = ({ values }: HandlerContext): KeyClerk => clerkOf(principalOf(values.get(callKey)));
	router.rpc(createApiKey, (request, context) => calls.createApiKey(request, by(context)), strictJson(createApiKey));
	router.rpc(listApiKeys, (request, context) => calls.listApiKeys(request, by(context)), strictJson(listApiKeys));
	router.rpc(rotateApiKey, (request, context) => calls.rotateApiKey(request, by(context)), strictJson(rotateApiKey));
	router.rpc(revokeApiKey, (request, context) => calls.revokeApiKey(request, by(context)), strictJson(revokeApiKey));
}
